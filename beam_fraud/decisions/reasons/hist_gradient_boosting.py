"""Exact contributions in scikit-learn's histogram gradient boosting, in log-odds.

Its trees are private attributes of scikit-learn, which only this file reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from beam_fraud.decisions.reasons.explainer import Floats, UnexplainableError, Unit
from beam_fraud.decisions.reasons.tree_shapley import (
    MOST_FEATURES,
    Leaf,
    Tree,
    TreeShapley,
    leaves,
)
from beam_fraud.models.kinds.hist_gradient_boosting import CODES, codes_of, known_codes
from beam_fraud.models.small_blocks.joined_trees import BoostingColumns


class HistGradientBoostingExplainer:
    """Path-dependent Shapley values, which sum up to the log-odds less their training mean."""

    approximate = False
    unit: Unit = "log-odds"

    def __init__(self, model: Any) -> None:
        """Read the trees of a fitted two-class `HistGradientBoostingClassifier`.

        Raises:
          UnexplainableError: this version of scikit-learn stores its trees differently, or a path
            has more features than a mask has bits.
        """
        self._model = model
        try:
            nodes = [stage[0].nodes for stage in model._predictors]
            sets = [stage[0].raw_left_cat_bitsets for stage in model._predictors]
            self._features = int(model.n_features_in_)
            categorical = _categorical(model)
            self._thresholds = _thresholds(nodes, categorical, self._features)
            known = known_codes(model)
            tree_leaves: list[Leaf] = []
            for tree, bits in zip(nodes, sets, strict=True):
                tree_leaves += leaves(self._tree(tree, codes_of(bits), known))
            if max((len(leaf.conditions) for leaf in tree_leaves), default=0) > MOST_FEATURES:
                raise UnexplainableError(f"paths of more than {MOST_FEATURES} features")
            self._shapley = TreeShapley(tree_leaves, self._features)
            self._prepare = BoostingColumns(model)
            self._bins = _Bins(self._thresholds)
            self._check()
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UnexplainableError(f"{type(model).__name__}: {error}") from error

    def contributions(self, block: Floats) -> Floats:
        bins = self._bins.of(self._prepare(block))
        contributions = np.empty(block.shape)
        contributions[:, self._prepare.origins] = self._shapley.contributions(bins)
        return contributions

    def _check(self) -> None:
        """Check that contributions sum up to the model's own scores, less a constant."""
        probes = np.zeros((3, self._features))
        probes[1], probes[2] = np.nan, 1.0
        means = self._model.decision_function(probes) - self.contributions(probes).sum(axis=1)
        if np.ptp(means) > 1e-6 * (1 + np.abs(means).max()):
            raise ValueError("its trees do not add up to its scores")

    def _tree(
        self,
        nodes: npt.NDArray[Any],
        left_sets: npt.NDArray[np.bool_],
        known: npt.NDArray[np.bool_],
    ) -> Tree:
        return Tree(
            nodes["left"].astype(np.int64),
            nodes["right"].astype(np.int64),
            nodes["feature_idx"].astype(np.int64),
            [
                None if node["is_leaf"] else self._goes_left(node, left_sets, known)
                for node in nodes
            ],
            nodes["count"].astype(np.float64),
            nodes["value"].astype(np.float64),
        )

    def _goes_left(
        self, node: Any, left_sets: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Return which bins of the node's feature go left; the last bin is for NaN."""
        missing = bool(node["missing_go_to_left"])
        thresholds = self._thresholds[node["feature_idx"]]
        if thresholds is None:
            left = left_sets[node["bitset_idx"]]
            return np.append(np.where(known[node["feature_idx"]], left, left | missing), missing)
        bins = np.arange(len(thresholds) + 2)
        left = bins <= np.searchsorted(thresholds, node["num_threshold"])
        left[-1] = missing
        return np.asarray(left)


#: Rows up to which one comparison with all thresholds is faster than one search per feature.
_FEW_ROWS = 8


class _Bins:
    """The bin of each value: the number of thresholds below it, or the code of a category."""

    def __init__(self, thresholds: list[Floats | None]) -> None:
        """Store the thresholds of each feature, increasing; None for a category."""
        self._thresholds = thresholds
        #: int64[features], the bin of NaN.
        self._absent = np.array([CODES if t is None else len(t) + 1 for t in thresholds])
        self._coded = np.array([t is None for t in thresholds])
        self._split = np.array([i for i, t in enumerate(thresholds) if t is not None and len(t)])
        parts = [t for t in thresholds if t is not None and len(t)]
        sizes = [len(part) for part in parts]
        self._every = np.concatenate([*parts, np.empty(0)])
        self._feature = np.repeat(self._split, sizes).astype(np.int64)
        self._first = np.cumsum([0, *sizes[:-1]])

    def of(self, prepared: Floats) -> npt.NDArray[np.int64]:
        """Return the bins, int64[n, features], of float64[n, features]."""
        bins = np.zeros(prepared.shape, dtype=np.int64)
        absent = np.isnan(prepared)
        if self._coded.any():
            codes = prepared[:, self._coded]
            # As in scikit-learn, a code outside the sets counts as NaN.
            outside = absent[:, self._coded] | (codes < 0) | (codes >= CODES)
            absent[:, self._coded] = outside
            bins[:, self._coded] = np.where(outside, 0, codes)
        if len(prepared) > _FEW_ROWS:
            for place in self._split.tolist():
                bins[:, place] = np.searchsorted(self._thresholds[place], prepared[:, place])
        elif len(self._split):
            below = self._every < prepared[:, self._feature]
            bins[:, self._split] = np.add.reduceat(below, self._first, axis=1, dtype=np.int64)
        return np.where(absent, self._absent, bins)


def _categorical(model: Any) -> npt.NDArray[np.bool_]:
    """Return which features are categories, in the order of the trees: categories first."""
    if model.is_categorical_ is None:
        return np.zeros(model.n_features_in_, dtype=bool)
    return np.asarray(model.is_categorical_, dtype=bool)


def _thresholds(
    nodes: list[npt.NDArray[Any]], categorical: npt.NDArray[np.bool_], features: int
) -> list[Floats | None]:
    """Return the increasing thresholds of each feature of the trees; None for a category."""
    every = np.concatenate(nodes)
    splits = every[every["is_leaf"] == 0]
    categories = int(np.count_nonzero(categorical))
    return [
        None if f < categories else np.unique(splits["num_threshold"][splits["feature_idx"] == f])
        for f in range(features)
    ]

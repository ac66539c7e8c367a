"""Exact contributions in scikit-learn's histogram gradient boosting, in log-odds.

Its trees are private attributes of scikit-learn, which only this file reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from beam_fraud.decisions.reasons.explainer import Floats, UnexplainableError, Unit
from beam_fraud.decisions.reasons.tree_shapley import MOST_FEATURES, Leaf, Tree, TreeShapley, leaves
from beam_fraud.models.kinds.hist_gradient_boosting import CODES, codes_of, known_codes


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
            #: Positions of the features after the model's preprocessor.
            self._from = _origins(categorical)
            self._check()
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UnexplainableError(f"{type(model).__name__}: {error}") from error

    def contributions(self, block: Floats) -> Floats:
        prepared = np.asarray(self._model._preprocess_X(block, reset=False), dtype=np.float64)
        bins = np.empty(prepared.shape, dtype=np.int64)
        for place, thresholds in enumerate(self._thresholds):
            values = prepared[:, place]
            absent = np.isnan(values)
            if thresholds is None:
                # As in scikit-learn, a code outside the sets counts as NaN.
                absent |= (values < 0) | (values >= CODES)
                bins[:, place] = np.where(absent, CODES, values)
            else:
                places = np.searchsorted(thresholds, values)
                bins[:, place] = np.where(absent, len(thresholds) + 1, places)
        contributions = np.empty_like(prepared)
        contributions[:, self._from] = self._shapley.contributions(bins)
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


def _categorical(model: Any) -> npt.NDArray[np.bool_]:
    """Return which features are categories, in the order of the trees: categories first."""
    if model.is_categorical_ is None:
        return np.zeros(model.n_features_in_, dtype=bool)
    return np.asarray(model.is_categorical_, dtype=bool)


def _origins(categorical: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.flatnonzero(categorical), np.flatnonzero(~categorical)])


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

"""Predict by several boosted models at once.

Most of what masks of leaves cost is the search for a value's place among the thresholds of a
feature. Models of the same features share it if their trees are in the same tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from beam_fraud.models.predict import predict_scores
from beam_fraud.models.small_blocks.columns import beyond_range
from beam_fraud.models.small_blocks.joined_trees import added
from beam_fraud.models.small_blocks.leaf_masks import TOGETHER, LeafMasks
from beam_fraud.models.small_blocks.predictor import edge_rows

Floats = npt.NDArray[np.float64]


class JoinedModels:
    """The scores of several models of scikit-learn's histogram gradient boosting."""

    def __init__(self, models: Sequence[Any], masks: LeafMasks) -> None:
        """Use `of`."""
        self._models = models
        self._masks = masks
        ends = np.cumsum([1 + len(model._predictors) for model in models])
        self._parts = [
            slice(end - 1 - len(model._predictors), end)
            for model, end in zip(models, ends.tolist(), strict=True)
        ]

    @property
    def shares(self) -> list[float]:
        """Share of each model in the cost of a prediction, by its number of trees."""
        trees = [part.stop - part.start for part in self._parts]
        return [own / sum(trees) for own in trees]

    @classmethod
    def of(cls, models: Sequence[Any], probe: Floats) -> JoinedModels | None:
        """Return the models together, if each of them keeps all bits of its scores.

        Args:
          models: classifiers of the same features.
          probe: float64[n, features], n > 0, such as `predictor.probing_rows`.

        Returns:
          None for models of another kind, and of categories.
        """
        if not all(_plain(model) for model in models):
            return None
        nodes: list[npt.NDArray[Any]] = []
        sets: list[npt.NDArray[np.uint32]] = []
        for model in models:
            trees = [tree for (tree,) in model._predictors]
            first: npt.NDArray[Any] = np.zeros(1, trees[0].nodes.dtype)
            first["value"], first["is_leaf"] = np.ravel(model._baseline_prediction)[0], 1
            nodes += [first, *(np.array(tree.nodes) for tree in trees)]
            sets += [np.empty((0, 8), np.uint32), *(tree.raw_left_cat_bitsets for tree in trees)]
        known = models[0]._bin_mapper.make_known_categories_bitsets()
        masks = LeafMasks.of(nodes, sets, known)
        if masks is None:
            return None
        joined = cls(models, masks)
        with np.errstate(all="ignore"), threadpool_limits(1):
            rows = np.concatenate([probe, edge_rows(masks.thresholds(probe.shape[1]), probe)])
            alike = (
                own.tobytes() == predict_scores(model, rows).tobytes()
                for own, model in zip(joined(rows), models, strict=True)
            )
            return joined if not beyond_range(rows) and all(alike) else None

    def __call__(self, block: Floats) -> list[Floats]:
        """Return the scores of each model, float64[n], of float64[n, features]."""
        if beyond_range(block):
            return [predict_scores(model, block) for model in self._models]
        odds = [np.empty(len(block)) for _ in self._models]
        for start in range(0, len(block), TOGETHER):
            rows = slice(start, start + TOGETHER)
            values = self._masks.leaf_values(block[rows])
            for own, part in zip(odds, self._parts, strict=True):
                own[rows] = added(values[:, part])
        return [np.asarray(expit(own)) for own in odds]


def _plain(model: Any) -> bool:
    return type(model) is HistGradientBoostingClassifier and model.is_categorical_ is None

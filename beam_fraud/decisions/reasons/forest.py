"""Path contributions in scikit-learn's trees and forests, in probabilities.

Each split on a row's path changes the share of frauds; the change is its feature's contribution
(Saabas, "Interpreting random forests", 2014). Contributions sum up exactly to the score less the
forest's mean at its roots, but they favour splits far down the path, so they are approximate. In
trees as deep as a forest's, exact values cost as much as a thousand predictions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from beam_fraud.decisions.reasons.explainer import Floats, Unit
from beam_fraud.models.small_blocks.joined_trees import JoinedForest, joined_forest

#: Rows explained together: a row has hundreds of steps in each of a hundred trees.
_TOGETHER = 256
#: Rows up to which one call for all trees is faster than one for each.
_FEW_ROWS = 64


class ForestExplainer:
    """Mean contributions of the splits on the path, over the trees."""

    approximate = True
    unit: Unit = "probability"

    def __init__(self, model: Any) -> None:
        """Read the trees of a fitted two-class forest, or of a single tree."""
        self._model = model
        estimators = getattr(model, "estimators_", [model])
        self._trees = [estimator.tree_ for estimator in estimators]
        self._features = int(model.n_features_in_)
        steps = [_steps(tree, self._features) for tree in self._trees]
        #: For the nodes of all trees: the contribution of the parent's split, and its feature.
        self._feature = np.concatenate([feature for feature, _ in steps])
        self._delta = np.concatenate([delta for _, delta in steps]) / len(self._trees)
        sizes = [len(feature) for feature, _ in steps]
        self._first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        #: Its trees for few rows; None before the first of them.
        self._joined: JoinedForest | None = None

    def contributions(self, block: Floats) -> Floats:
        parts = [
            self._explain(block[first : first + _TOGETHER])
            for first in range(0, len(block), _TOGETHER)
        ]
        return np.concatenate(parts)

    def _explain(self, block: Floats) -> Floats:
        node, row = self._paths(block)
        # Add tree by tree, so that a row's sums are equal in any block.
        added = np.bincount(
            row * self._features + self._feature[node],
            weights=self._delta[node],
            minlength=len(block) * self._features,
        )
        return np.asarray(added, dtype=np.float64).reshape(len(block), self._features)

    def _paths(self, block: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the nodes on the way of each row, a row's tree by tree, and their rows."""
        if len(block) <= _FEW_ROWS:
            # Kept here, so that it is there wherever this is sent.
            self._joined = self._joined or joined_forest(self._model)
            return self._joined.paths(block)
        # Dtype of scikit-learn's trees.
        values = np.ascontiguousarray(block, dtype=np.float32)
        nodes, rows = [], []
        for tree, first in zip(self._trees, self._first, strict=True):
            path = tree.decision_path(values)
            nodes.append(path.indices + first)
            rows.append(np.repeat(np.arange(len(block)), np.diff(path.indptr)))
        return np.concatenate(nodes), np.concatenate(rows)


def _steps(tree: Any, features: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return each node's feature of the parent's split and its contribution; 0 for the root."""
    counts = tree.value[:, 0, :]
    fraud = counts[:, 1] / counts.sum(axis=1)
    feature, delta = np.zeros(len(fraud), dtype=np.int64), np.zeros(len(fraud))
    splits = np.flatnonzero(tree.children_left >= 0)
    for children in (tree.children_left, tree.children_right):
        feature[children[splits]] = tree.feature[splits]
        delta[children[splits]] = fraud[children[splits]] - fraud[splits]
    return feature, delta

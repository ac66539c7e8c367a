"""Gradient boosting on binned features: the best figures for the least time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score

from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.labelled import LabelledRows

#: Categories that scikit-learn can split as such; a feature with more is a number to it.
MOST_CATEGORIES = 255


@dataclass(frozen=True)
class HistGradientBoosting(ModelKind):
    """Small trees with strong shrinkage, as many as later rows call for.

    Without `l2` boosting on rare frauds runs away within some tens of trees: a leaf of few rows
    that are all genuine or all fraud takes a huge step. scikit-learn's own early stopping looks at
    the log loss of random rows; here the average precision of later rows decides.
    """

    name: ClassVar[str] = "hist_gradient_boosting"

    #: Trees, at most where validation rows decide.
    trees: int = 150
    #: Leaves of a tree: the more, the longer a prediction takes.
    leaves: int = 8
    #: Share of each tree's step that is taken.
    learning_rate: float = 0.1
    #: Share of the features that a split may choose from.
    max_features: float = 0.5
    #: L2 penalty on the leaves.
    l2: float = 10.0
    #: Rows in a leaf at least.
    min_samples_leaf: int = 20
    #: How much average precision may be given up for fewer trees: less than its own noise.
    tolerance: float = 0.005

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """The boosting, without weights: its scores stay near the share of frauds."""
        few = (np.nanmax(rows.matrix[:, i]) < MOST_CATEGORIES for i in rows.categorical)
        return HistGradientBoostingClassifier(
            max_iter=self.trees,
            max_leaf_nodes=self.leaves,
            learning_rate=self.learning_rate,
            max_features=self.max_features,
            l2_regularization=self.l2,
            min_samples_leaf=self.min_samples_leaf,
            categorical_features=list(compress(rows.categorical, few)),
            early_stopping=False,
            random_state=seed,
        )

    def fit(self, rows: LabelledRows, seed: int) -> Any:
        """A classifier fitted on rows of both classes, set to predict on one thread."""
        # scikit-learn can't bin a column without a value; as a constant it is never split by.
        empty = np.isnan(rows.matrix).all(axis=0)
        matrix = np.where(empty, 0.0, rows.matrix) if empty.any() else rows.matrix
        return super().fit(replace(rows, matrix=matrix), seed)

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        """Choose the number of trees: the fewest that do about as well as the best number."""
        stages = [
            probabilities[:, 1]
            for probabilities in self.fit(train, seed).staged_predict_proba(valid.matrix)
        ]
        precision = np.array([average_precision_score(valid.labels, s) for s in stages])
        fewest = int(np.argmax(precision >= precision.max() - self.tolerance))
        return replace(self, trees=fewest + 1), stages[fewest]

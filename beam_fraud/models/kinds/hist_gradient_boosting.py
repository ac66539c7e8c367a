"""Gradient boosting on binned features: the best figures for the least time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import compress, islice
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier

from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds.base import Real, Space, Whole
from beam_fraud.models.kinds.boosting import Boosting, Floats

#: Number of codes that a categorical feature can have.
CODES = 256


def known_codes(model: Any) -> npt.NDArray[np.bool_]:
    """Return which codes of each feature occurred in training, bool[features, 256]."""
    known = np.zeros((int(model.n_features_in_), CODES), dtype=bool)
    if model.is_categorical_ is not None:
        sets, places = model._bin_mapper.make_known_categories_bitsets()
        for feature in range(int(np.count_nonzero(model.is_categorical_))):
            known[feature] = codes_of(sets)[places[feature]]
    return known


def codes_of(sets: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Convert sets of 8 words, the format of tree nodes, to bool[sets, 256]."""
    words = np.ascontiguousarray(sets, dtype="<u4").reshape(-1, 8)
    return np.unpackbits(words.view(np.uint8), axis=1, bitorder="little").astype(bool)


#: Maximum of categories that scikit-learn splits as such; a feature with more counts as a number.
MOST_CATEGORIES = 255


@dataclass(frozen=True)
class HistGradientBoosting(Boosting):
    """Small trees with strong shrinkage; validation rows choose their number.

    Without `l2`, boosting on rare frauds diverges within some tens of trees: a leaf of few rows
    that are all genuine or all fraud takes a huge step.
    """

    name: ClassVar[str] = "hist_gradient_boosting"
    space: ClassVar[Space] = {
        "trees": Whole(50, 400, log=True),
        "leaves": Whole(4, 64, log=True),
        "learning_rate": Real(0.02, 0.3, log=True),
        "max_features": Real(0.2, 1.0),
        "l2": Real(0.1, 100.0, log=True),
        "min_samples_leaf": Whole(5, 200, log=True),
    }

    #: Trees; the maximum if validation rows choose.
    trees: int = 150
    #: Leaves per tree: more leaves make predictions slower.
    leaves: int = 8
    #: Learning rate: share of each tree's step.
    learning_rate: float = 0.1
    #: Share of the features considered per split.
    max_features: float = 0.5
    #: L2 penalty on the leaves.
    l2: float = 10.0
    #: Minimum rows in a leaf.
    min_samples_leaf: int = 20
    #: Weight of a fraud in genuine rows: without it, scores stay near the share of frauds.
    fraud_weight: float = 1.0

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the boosting."""
        few = (np.nanmax(rows.matrix[:, i]) < MOST_CATEGORIES for i in rows.categorical)
        return HistGradientBoostingClassifier(
            max_iter=self.trees,
            max_leaf_nodes=self.leaves,
            learning_rate=self.learning_rate,
            max_features=self.max_features,
            l2_regularization=self.l2,
            min_samples_leaf=self.min_samples_leaf,
            class_weight=None if self.fraud_weight == 1 else {0: 1.0, 1: self.fraud_weight},
            categorical_features=list(compress(rows.categorical, few)),
            early_stopping=False,
            random_state=seed,
        )

    def fit(self, rows: LabelledRows, seed: int) -> Any:
        """Return a classifier fitted on rows of both classes, set to predict on one thread."""
        # scikit-learn cannot bin a column without a value; a constant column is never split.
        empty = np.isnan(rows.matrix).all(axis=0)
        matrix = np.where(empty, 0.0, rows.matrix) if empty.any() else rows.matrix
        return super().fit(replace(rows, matrix=matrix), seed)

    def stages(self, model: Any, matrix: Floats) -> Iterator[Floats]:
        for probabilities in model.staged_predict_proba(matrix):
            yield probabilities[:, 1]

    def scores_of_first(self, trees: int, model: Any, matrix: Floats) -> Floats:
        return next(islice(self.stages(model, matrix), trees - 1, None))

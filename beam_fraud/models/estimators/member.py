"""Wrap a kind of model as a classifier that an ensemble can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin

from beam_fraud.models.labelled import LabelledRows

if TYPE_CHECKING:
    from beam_fraud.models.kinds.base import ModelKind


class Member(ClassifierMixin, BaseEstimator):
    """A kind behind the interface of scikit-learn.

    A kind may do more than its estimator's `fit`; so does the member.

    Args:
      kind: the kind with its settings.
      categorical: positions of the columns that hold category codes.
      seed: of everything random in it.
    """

    def __init__(self, kind: ModelKind, categorical: tuple[int, ...] = (), seed: int = 0) -> None:
        self.kind = kind
        self.categorical = categorical
        self.seed = seed

    def fit(self, matrix: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]) -> Member:
        """Fit the kind on float64[n, features] and int8[n]."""
        rows = LabelledRows(matrix, np.asarray(labels, dtype=np.int8), tuple(self.categorical))
        self.model_: Any = self.kind.fit(rows, self.seed)
        self.classes_ = np.unique(rows.labels)
        self.n_features_in_ = rows.matrix.shape[1]
        return self

    def predict_proba(self, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n, 2]: the probabilities of genuine and of fraud."""
        probabilities: npt.NDArray[np.float64] = self.model_.predict_proba(matrix)
        return probabilities

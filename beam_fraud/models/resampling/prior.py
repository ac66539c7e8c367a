"""Correct scores of a model that was fitted on a part of the genuine rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin

Floats = npt.NDArray[np.float64]


def corrected(scores: Floats, kept: float) -> Floats:
    """Return probabilities among all rows, from those among the kept rows.

    p = b s / (b s - s + 1), with b the share of genuine rows that was kept: the odds times b.
    Dal Pozzolo, Caelen, Johnson and Bontempi: Calibrating probability with undersampling for
    unbalanced classification (2015).

    Args:
      scores: float64[n] in 0..1.
      kept: share of genuine rows that was kept, above 0 and up to 1.

    Returns:
      float64[n] in 0..1, in the same order.

    Example:
      >>> corrected(np.array([0.0, 0.5, 1.0]), 0.25).tolist()
      [0.0, 0.2, 1.0]
    """
    shifted = kept * scores
    return np.asarray(shifted / (shifted + (1 - scores)))


class PriorCorrected(ClassifierMixin, BaseEstimator):
    """A fitted classifier with corrected probabilities."""

    def __init__(self, model: Any, kept: float) -> None:
        self.model = model
        self.kept = kept

    @property
    def classes_(self) -> npt.NDArray[np.int64]:
        return np.asarray(self.model.classes_)

    @property
    def n_features_in_(self) -> int:
        return int(self.model.n_features_in_)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_proba(self, matrix: Floats) -> Floats:
        """Return float64[n, 2]: the probabilities of genuine and fraud."""
        fraud = corrected(np.asarray(self.model.predict_proba(matrix)[:, 1], np.float64), self.kept)
        return np.column_stack([1 - fraud, fraud])

    def predict(self, matrix: Floats) -> npt.NDArray[np.int64]:
        """Return the likelier class of each row, int64[n]."""
        return np.asarray(self.classes_[np.argmax(self.predict_proba(matrix), axis=1)])

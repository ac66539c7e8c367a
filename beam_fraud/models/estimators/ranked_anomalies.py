"""How much a row differs from the others, as a rank among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from beam_fraud.models.estimators.empirical_rank import EmpiricalRank


class RankedAnomalies(ClassifierMixin, BaseEstimator):
    """A detector of outliers as a classifier that never looks at labels.

    The score is the share of the fitted rows that are less anomalous. It rises with the anomaly,
    and says nothing of how probable a fraud is: of any hundred rows one has 0.99 or more.

    Args:
      detector: unfitted, whose `score_samples` is from -1 to 0 and low for outliers, as
        IsolationForest's is, or a pipeline that ends in one.
    """

    def __init__(self, detector: Any) -> None:
        self.detector = detector

    def fit(
        self, matrix: npt.NDArray[np.float64], labels: npt.NDArray[np.int8] | None = None
    ) -> RankedAnomalies:
        """Learn what is usual.

        Args:
          matrix: float64[n, features], n > 0, NaN where a value is absent.
          labels: not looked at.
        """
        self.classes_ = np.array([0, 1])
        self.n_features_in_ = matrix.shape[1]
        self.detector_ = clone(self.detector).fit(matrix)
        self.rank_ = EmpiricalRank.of(self._anomaly(matrix))
        return self

    def predict_proba(self, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n, 2]: one less the rank, and the rank."""
        ranks = self.rank_(self._anomaly(matrix))
        return np.column_stack([1 - ranks, ranks])

    def _anomaly(self, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        anomaly: npt.NDArray[np.float64] = -self.detector_.score_samples(matrix)
        return anomaly

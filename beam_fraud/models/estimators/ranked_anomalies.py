"""Rank rows by an outlier detector."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from beam_fraud.models.estimators.empirical_rank import EmpiricalRank


class RankedAnomalies(ClassifierMixin, BaseEstimator):
    """An outlier detector as a classifier that ignores labels.

    The score is the share of fitted rows that are less anomalous. It increases with the anomaly,
    and is no probability: one row in a hundred has 0.99 or more.

    Args:
      detector: unfitted; its `score_samples` lies in -1..0 and is low for outliers, as that of
        IsolationForest or of a pipeline that ends in one.
    """

    def __init__(self, detector: Any) -> None:
        self.detector = detector

    def fit(
        self, matrix: npt.NDArray[np.float64], labels: npt.NDArray[np.int8] | None = None
    ) -> RankedAnomalies:
        """Fit the detector.

        Args:
          matrix: float64[n, features], n > 0, NaN where a value is absent.
          labels: ignored.
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

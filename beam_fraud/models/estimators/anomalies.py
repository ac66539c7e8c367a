"""Rank rows by an outlier detector, which learns from no labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone


class CategoryShares(TransformerMixin, BaseEstimator):
    """Map a code to its share of the fitted rows; an unknown code maps to 0.

    Codes are numbered by name, so a tree that splits them as numbers is arbitrary. Rarity is the
    signal that needs no labels. An absent code is a category too.
    """

    def fit(self, matrix: npt.NDArray[np.float64], labels: object = None) -> CategoryShares:
        """Count the codes of float64[n, columns], from 0 on and NaN where absent."""
        self.n_features_in_ = matrix.shape[1]
        self.shares_: list[npt.NDArray[np.float64]] = [
            np.bincount(_positions(column)) / len(column) for column in matrix.T
        ]
        return self

    def transform(self, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n, columns]: the share of each code."""
        out = np.zeros(matrix.shape, dtype=np.float64)
        for i, shares in enumerate(self.shares_):
            at = _positions(matrix[:, i])
            known = at < len(shares)
            out[known, i] = shares[at[known]]
        return out


def _positions(codes: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """int64[n]: 0 for an absent code, else one more than the code."""
    positions: npt.NDArray[np.int64] = np.nan_to_num(codes + 1, nan=0.0).astype(np.int64)
    return positions


#: Maximum of knots of a distribution: half of them for the highest scores, where frauds are.
MOST_KNOTS = 10_000


@dataclass(frozen=True)
class EmpiricalRank:
    """An increasing map from scores in 0..1 to ranks in 0..1 among known scores.

    The map is fixed, so a row has the same rank alone as among others. It is linear between known
    scores and beyond the highest: different scores have different ranks.
    """

    #: float64[k]: rising, from 0 to 1.
    scores: npt.NDArray[np.float64]
    #: float64[k]: rising, from 0 to 1.
    ranks: npt.NDArray[np.float64]

    @classmethod
    def of(cls, seen: npt.NDArray[np.float64]) -> EmpiricalRank:
        """Return the ranks among float64[n] scores in 0..1, n > 0; ties share the mean rank.

        Example:
          >>> EmpiricalRank.of(np.array([0.2, 0.2, 0.6]))(np.array([0.0, 0.2, 0.6, 1.0])).tolist()
          [0.0, 0.375, 0.75, 1.0]
        """
        values, counts = np.unique(seen, return_counts=True)
        middle = (np.cumsum(counts) - (counts - 1) / 2) / (len(seen) + 1)
        at = _knots(len(values))
        values, middle = values[at], middle[at]
        inside = (values > 0) & (values < 1)
        return cls(
            np.concatenate([[0.0], values[inside], [1.0]]),
            np.concatenate([[0.0], middle[inside], [1.0]]),
        )

    def __call__(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the ranks in 0..1 of float64[n] scores in 0..1."""
        return np.interp(scores, self.scores, self.ranks)


def _knots(values: int) -> npt.NDArray[np.int64]:
    if values <= MOST_KNOTS:
        return np.arange(values)
    half = MOST_KNOTS // 2
    spread = np.linspace(0, values - half, half, endpoint=False).astype(np.int64)
    return np.concatenate([spread, np.arange(values - half, values)])


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

"""Empirical ranks of scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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

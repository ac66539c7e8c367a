"""Test whether a gain in average precision exceeds chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

#: Number of bootstrap samples.
DRAWS = 400
#: Confidence of the interval.
CONFIDENCE = 0.9


class WeightedPrecision:
    """Average precision of one list of scores under many weightings of its rows.

    Scores are sorted once, because sorting is the slow part.
    """

    def __init__(self, labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]) -> None:
        """Sort int8[n] labels by float64[n] scores."""
        self._order = np.argsort(-scores, kind="stable")
        self._frauds = labels[self._order] == 1
        self._last_of_tie = np.append(np.flatnonzero(np.diff(scores[self._order])), len(scores) - 1)

    def __call__(self, weights: npt.NDArray[np.int64]) -> float:
        """Return the average precision where row i has weight `weights[i]`, int64[n]."""
        counts = weights[self._order]
        flagged = np.cumsum(counts)[self._last_of_tie]
        caught = np.cumsum(np.where(self._frauds, counts, 0))[self._last_of_tie]
        gained = np.diff(caught, prepend=0)
        some = gained > 0
        return float(np.sum(gained[some] * caught[some] / flagged[some]) / max(caught[-1], 1))


def gain_interval(
    labels: Sequence[npt.NDArray[np.int8]],
    before: Sequence[npt.NDArray[np.float64]],
    after: Sequence[npt.NDArray[np.float64]],
    seed: int,
) -> tuple[float, float]:
    """Return the confidence interval of the gain in average precision of other scores.

    Rows are drawn with replacement, frauds and genuine rows separately, so that each sample has as
    many of both; both lists of scores are measured on the same sample, which cancels its
    difficulty.

    Args:
      labels: int8[n] for each fold, both classes.
      before: float64[n] for each fold.
      after: float64[n] for each fold.
      seed: of the bootstrap.

    Returns:
      The bounds of the middle `CONFIDENCE` of `DRAWS` differences, each a mean over folds.
    """
    random = np.random.default_rng(seed)
    gains = np.zeros(DRAWS)
    for true, old, new in zip(labels, before, after, strict=True):
        first, second = WeightedPrecision(true, old), WeightedPrecision(true, new)
        for draw in range(DRAWS):
            weights = _drawn(true, random)
            gains[draw] += (second(weights) - first(weights)) / len(labels)
    low, high = np.quantile(gains, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _drawn(labels: npt.NDArray[np.int8], random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return how often each row is drawn, int64[n]."""
    weights = np.zeros(len(labels), dtype=np.int64)
    for label in (0, 1):
        rows = np.flatnonzero(labels == label)
        drawn = rows[random.integers(0, len(rows), len(rows))]
        weights += np.bincount(drawn, minlength=len(labels))
    return weights

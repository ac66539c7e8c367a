"""Whether one list of scores is better than another by more than luck."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

#: Times that the rows are drawn anew.
DRAWS = 400
#: Share of the draws that the interval holds.
CONFIDENCE = 0.9


class WeightedPrecision:
    """Average precision of one list of scores under many weightings of its rows.

    Sorting is the slow part, and is done once.
    """

    def __init__(self, labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]) -> None:
        """Labels, int8[n], and scores, float64[n]."""
        self._order = np.argsort(-scores, kind="stable")
        self._frauds = labels[self._order] == 1
        self._last_of_tie = np.append(np.flatnonzero(np.diff(scores[self._order])), len(scores) - 1)

    def __call__(self, weights: npt.NDArray[np.int64]) -> float:
        """Return the average precision where row i counts `weights[i]` times, int64[n]."""
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
    """Return how much average precision is gained by other scores of the same rows.

    Rows are drawn with replacement, frauds and genuine rows apart so that each draw has as many of
    both, and both lists of scores are measured on the same draw: what makes a draw easy or hard
    cancels out.

    Args:
      labels: int8[n] for each fold, both classes.
      before: float64[n] for each fold.
      after: float64[n] for each fold.
      seed: of the draws.

    Returns:
      The bounds of the middle `CONFIDENCE` of `DRAWS` differences, each the mean of the folds'.
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
    """int64[n]: how often each row is drawn."""
    weights = np.zeros(len(labels), dtype=np.int64)
    for label in (0, 1):
        rows = np.flatnonzero(labels == label)
        drawn = rows[random.integers(0, len(rows), len(rows))]
        weights += np.bincount(drawn, minlength=len(labels))
    return weights

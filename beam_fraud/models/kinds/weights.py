"""Which weights an average of models should have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from beam_fraud.models.estimators.logit_average import mean_log_odds
from beam_fraud.models.resampling.noise import gain_interval

#: Into how many shares the weight is divided: finer weights would fit noise.
SHARES = 4


def best_weights(
    labels: npt.NDArray[np.int8],
    scores: Sequence[npt.NDArray[np.float64]],
    tolerance: float,
    seed: int,
) -> tuple[float, ...]:
    """The weights whose average has the best average precision, equal ones unless clearly better.

    The best of many weights looks better than it is. So its gain must be larger than `tolerance`,
    and above 0 in 95 of 100 draws of the rows, too.

    Args:
      labels: int8[n] of rows that the members were not fitted on.
      scores: float64[n] of each of k members.
      tolerance: average precision that must be gained over equal weights.
      seed: of the draws.

    Returns:
      k weights that sum to 1, each a whole number of quarters, or equal ones.
    """
    equal = (1 / len(scores),) * len(scores)
    best = max(_grid(len(scores), SHARES), key=lambda w: _precision(labels, scores, w))
    if _precision(labels, scores, best) <= _precision(labels, scores, equal) + tolerance:
        return equal
    averages = [mean_log_odds(scores, weights) for weights in (equal, best)]
    lowest, _ = gain_interval([labels], averages[:1], averages[1:], seed)
    return best if lowest > 0 else equal


def _precision(
    labels: npt.NDArray[np.int8],
    scores: Sequence[npt.NDArray[np.float64]],
    weights: tuple[float, ...],
) -> float:
    return float(average_precision_score(labels, mean_log_odds(scores, weights)))


def _grid(members: int, shares: int) -> Iterator[tuple[float, ...]]:
    """All ways to give `shares` shares to members."""
    if members == 1:
        yield (shares / SHARES,)
        return
    for first in range(shares + 1):
        for rest in _grid(members - 1, shares - first):
            yield (first / SHARES, *rest)

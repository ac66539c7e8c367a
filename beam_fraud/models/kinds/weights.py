"""Which weights an average of models should have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from beam_fraud.models.estimators.logit_average import mean_log_odds

#: Into how many shares the weight is divided: finer weights would fit noise.
SHARES = 4


def best_weights(
    labels: npt.NDArray[np.int8], scores: Sequence[npt.NDArray[np.float64]], tolerance: float
) -> tuple[float, ...]:
    """The weights whose average has the best average precision, equal ones unless clearly better.

    Args:
      labels: int8[n] of rows that the members were not fitted on.
      scores: float64[n] of each of k members.
      tolerance: average precision that must be gained over equal weights.

    Returns:
      k weights that sum to 1, each a whole number of quarters, or equal ones.
    """
    equal = (1 / len(scores),) * len(scores)
    least = _precision(labels, scores, equal) + tolerance
    best = max(_grid(len(scores), SHARES), key=lambda w: _precision(labels, scores, w))
    return best if _precision(labels, scores, best) > least else equal


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

"""Convert scores to bounded log-odds and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit

#: Smoothing added to both sides of the odds. A forest that scores 0 has seen no fraud in some
#: hundred leaves, not in infinitely many: its log-odds are -9.2, and other members can outvote it.
SMOOTHING = 1e-4


def log_odds(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the log-odds of float64[n] scores in 0..1, from -9.2 to 9.2, rising with the score.

    Smoothed, not clipped: clipping would make different scores equal.

    Example:
      >>> log_odds(np.array([0.0, 0.5, 1.0])).round(1).tolist()
      [-9.2, 0.0, 9.2]
    """
    smoothed: npt.NDArray[np.float64] = np.log((scores + SMOOTHING) / (1 - scores + SMOOTHING))
    return smoothed


def probability(odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the score in 0..1 of float64[n] log-odds."""
    scores: npt.NDArray[np.float64] = expit(odds)
    return scores

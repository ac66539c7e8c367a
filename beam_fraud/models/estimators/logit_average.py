"""The mean of several models' log-odds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_fraud.models.estimators.ensemble import EnsembleClassifier
from beam_fraud.models.estimators.log_odds import log_odds, probability


class LogitAverage(EnsembleClassifier):
    """The probability whose log-odds are the weighted mean of the members'.

    Args:
      members: names and unfitted classifiers.
      weights: of each member, not negative; equal if empty or all 0.
    """

    def __init__(self, members: Sequence[tuple[str, Any]], weights: Sequence[float] = ()) -> None:
        super().__init__(members)
        self.weights = weights

    def combine(self, scores: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        return mean_log_odds(scores, self.weights)

    def shares(self) -> list[float]:
        """Return the weights of the members, normalised to a sum of 1."""
        return [float(share) for share in _shares(self.weights, len(self.members_))]


def mean_log_odds(
    scores: Sequence[npt.NDArray[np.float64]], weights: Sequence[float] = ()
) -> npt.NDArray[np.float64]:
    """Average scores as log-odds.

    Args:
      scores: float64[n] in 0..1 of each of k members, k > 0.
      weights: k weights, not negative; equal if empty or all 0.

    Returns:
      float64[n] in 0..1.
    """
    # Add members one by one: the sums of a matrix product depend on the number of rows.
    total = np.zeros_like(scores[0])
    for share, member in zip(_shares(weights, len(scores)), scores, strict=True):
        total += share * log_odds(member)
    return probability(total)


def _shares(weights: Sequence[float], members: int) -> npt.NDArray[np.float64]:
    given = np.asarray(weights if any(weights) else np.ones(members), dtype=np.float64)
    shares: npt.NDArray[np.float64] = given / given.sum()
    return shares

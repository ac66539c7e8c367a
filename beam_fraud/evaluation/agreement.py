"""The agreement of two models on flagged transactions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from beam_fraud.evaluation.rows import Floats, Labels


@dataclass(frozen=True)
class Agreement:
    """The rows that two models flag, each by its own threshold."""

    #: Rows that both flag.
    both: int
    #: Rows that the first alone flags.
    only_first: int
    #: Rows that the second alone flags.
    only_second: int
    #: Frauds among the rows above.
    frauds_both: int
    frauds_only_first: int
    frauds_only_second: int
    #: Jaccard index of the flagged rows; None if nothing is flagged.
    overlap: float | None
    #: Spearman's correlation of the scores; None if a model scores all rows equally.
    rank_correlation: float | None


def agreement(
    labels: Labels, first: Floats, second: Floats, thresholds: tuple[float, float]
) -> Agreement:
    """Compare the flags and scores of two models on n rows.

    Args:
      labels: int8[n], 1 is fraud.
      first: float64[n], scores of one model.
      second: float64[n], scores of the other.
      thresholds: the threshold of each model.
    """
    a, b = first >= thresholds[0], second >= thresholds[1]
    both, only_first, only_second = a & b, a & ~b, ~a & b
    either = int((a | b).sum())
    return Agreement(
        both=int(both.sum()),
        only_first=int(only_first.sum()),
        only_second=int(only_second.sum()),
        frauds_both=int(labels[both].sum()),
        frauds_only_first=int(labels[only_first].sum()),
        frauds_only_second=int(labels[only_second].sum()),
        overlap=int(both.sum()) / either if either else None,
        rank_correlation=rank_correlation(first, second),
    )


def rank_correlation(first: Floats, second: Floats) -> float | None:
    """Return Spearman's rho with mean ranks for ties; None if a list is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second).statistic)

"""Calibration: whether three in ten rows with a score of 0.3 are frauds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from beam_fraud.evaluation.rows import Floats, Labels

#: Minimum rows of the highest bin.
_ROWS = 50


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows of similar scores."""

    #: The lowest score among them.
    low: float
    #: The highest.
    high: float
    #: Number of rows.
    rows: int
    #: Frauds among them.
    frauds: int
    #: The mean score.
    mean_score: float
    #: The share of frauds.
    fraud_rate: float
    #: Lower end of the share's 95 % interval, after Clopper and Pearson.
    rate_low: float
    #: Upper end of the interval.
    rate_high: float


@dataclass(frozen=True)
class Calibration:
    """The calibration of scores on n rows."""

    #: Mean squared distance of score and label (Brier 1950); 0 is best.
    brier: float
    #: The same for a constant score, the share of frauds.
    brier_of_rate: float
    #: Expected calibration error: mean distance of score and share of frauds, weighted by rows.
    expected_calibration_error: float
    #: The mean of all scores, which equals the share of frauds if calibrated overall.
    mean_score: float
    #: From the lowest scores to the highest.
    bins: tuple[ReliabilityBin, ...]


def calibration_of(labels: Labels, scores: Floats) -> Calibration:
    """Compare scores with shares of frauds, in bins between quantiles.

    The lower half of the rows is the first bin, and each further bin holds half of the rest: frauds
    are rare, and the highest scores matter. Rows with equal scores stay together.

    Args:
      labels: int8[n], 1 is fraud; n > 0.
      scores: float64[n] in 0..1.
    """
    halvings = max(1, int(np.log2(max(len(scores) / _ROWS, 1))) + 1)
    quantiles = 1 - 0.5 ** np.arange(1, halvings)
    edges = np.unique(np.quantile(scores, quantiles, method="inverted_cdf"))
    places = np.searchsorted(edges, scores, side="left")
    rows = np.bincount(places, minlength=len(edges) + 1)
    frauds = np.bincount(places, labels, len(rows)).astype(np.int64)
    sums = np.bincount(places, scores, len(rows))
    low, high = np.full(len(rows), np.inf), np.full(len(rows), -np.inf)
    np.minimum.at(low, places, scores)
    np.maximum.at(high, places, scores)
    # The interval of a share of 0 starts at 0, that of a share of 1 ends at 1.
    rate_low = np.where(frauds > 0, betaincinv(np.maximum(frauds, 1), rows - frauds + 1, 0.025), 0)
    rest = np.maximum(rows - frauds, 1)
    rate_high = np.where(frauds < rows, betaincinv(frauds + 1, rest, 0.975), 1)
    bins = tuple(
        ReliabilityBin(
            low=float(low[i]),
            high=float(high[i]),
            rows=int(rows[i]),
            frauds=int(frauds[i]),
            mean_score=float(sums[i] / rows[i]),
            fraud_rate=float(frauds[i] / rows[i]),
            rate_low=float(rate_low[i]),
            rate_high=float(rate_high[i]),
        )
        for i in np.flatnonzero(rows)
    )
    rate = float(labels.mean())
    distance = sum(b.rows * abs(b.mean_score - b.fraud_rate) for b in bins)
    return Calibration(
        brier=float(np.mean((scores - labels) ** 2)),
        brier_of_rate=rate * (1 - rate),
        expected_calibration_error=distance / len(scores),
        mean_score=float(scores.mean()),
        bins=bins,
    )

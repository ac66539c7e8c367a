"""Figures of scores at every threshold, their costs, and calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from beam_fraud.errors import Code, UsageError
from beam_fraud.evaluation.rows import Floats, Ints, Labels
from beam_fraud.models.threshold import LeastCost, Operating, operating_points, parse_threshold

#: Approximate maximum of points of a curve.
_POINTS = 400


@dataclass(frozen=True)
class Curves:
    """Effects of k thresholds, highest first; the lowest flags every row."""

    #: float64[k], falling.
    thresholds: Floats
    #: int64[k]: rows with at least that score.
    flagged: Ints
    #: int64[k]: frauds among them.
    caught: Ints
    #: float64[k]: frauds among the flagged.
    precision: Floats
    #: float64[k]: flagged among the frauds; NaN without frauds.
    recall: Floats
    #: float64[k]: flagged among the genuine; NaN without any.
    false_positive_rate: Floats


def curves_of(labels: Labels, scores: Floats) -> Curves:
    """Return the curves of n > 0 rows.

    Args:
      labels: int8[n], 1 is fraud.
      scores: float64[n].
    """
    points = operating_points(labels, scores, 0.0)
    at = thinned(points)
    flagged, caught = points.flagged[at], points.caught[at]
    genuine = len(labels) - points.frauds
    with np.errstate(divide="ignore", invalid="ignore"):
        return Curves(
            thresholds=points.thresholds[at],
            flagged=flagged,
            caught=caught,
            precision=caught / flagged,
            recall=caught / np.float64(points.frauds),
            false_positive_rate=(flagged - caught) / np.float64(genuine),
        )


def thinned(points: Operating) -> Ints:
    """Return the points that a plot needs, increasing.

    Precision falls between two frauds and jumps at the second: keep both ends of a jump where jumps
    are few, and spread the rest evenly by the logarithm of the flagged rows.
    """
    jumps = np.flatnonzero(np.diff(points.caught, prepend=0))
    ends = np.unique(np.concatenate([jumps, jumps[jumps > 0] - 1]))
    if len(ends) > _POINTS:
        ends = ends[np.linspace(0, len(ends) - 1, _POINTS).astype(np.int64)]
    last = len(points.flagged) - 1
    spread = np.searchsorted(points.flagged, np.geomspace(1, points.flagged[-1], _POINTS // 4))
    chosen: Ints = np.unique(np.concatenate([ends, np.minimum(spread, last), [0, last]]))
    return chosen


#: Edges of histograms of scores.
SCORE_EDGES = np.linspace(0, 1, 51)


@dataclass(frozen=True)
class ScoreHistogram:
    """Rows by score, in bins of equal width from 0 to 1."""

    #: float64[bins + 1].
    edges: Floats
    #: int64[bins].
    genuine: Ints
    #: int64[bins].
    frauds: Ints


def score_histogram(labels: Labels, scores: Floats) -> ScoreHistogram:
    """Count rows by score: labels int8[n], scores float64[n] in 0..1."""
    genuine, frauds = (np.histogram(scores[labels == label], SCORE_EDGES)[0] for label in (0, 1))
    return ScoreHistogram(SCORE_EDGES, genuine, frauds)


@dataclass(frozen=True)
class CostCurve:
    """The cost of n rows at k thresholds, and the cheapest threshold."""

    #: float64[k], falling.
    thresholds: Floats
    #: float64[k].
    costs: Floats
    #: Cost at the current threshold.
    in_use: float
    #: Cost of flagging nothing.
    nothing_flagged: float
    #: Minimum cost, flagging nothing included.
    least: float
    #: Highest threshold of minimum cost; None flags nothing. Chosen on these very rows.
    best_threshold: float | None


@dataclass(frozen=True)
class Costs:
    """Costs with a fixed price per missed fraud, and with its amount."""

    #: Cost of a missed fraud.
    missed: float
    #: Cost of a false alarm, in the same unit.
    false_alarm: float
    #: Cost curve of these prices.
    fixed: CostCurve
    #: Cost curve where a missed fraud costs its amount, if positive, and a false alarm the price
    #: above.
    by_amount: CostCurve


def parse_cost(text: str) -> LeastCost:
    """Parse `FN:FP`, the costs of a missed fraud and a false alarm.

    Raises:
      UsageError: these are not two positive numbers.

    Example:
      >>> parse_cost("100:1")
      LeastCost(missed=100.0, false_alarm=1.0)
    """
    try:
        rule = parse_threshold(f"cost={text}", "--cost")
    except UsageError:
        rule = None
    if not isinstance(rule, LeastCost):
        raise UsageError(
            f"--cost {text}: must be FN:FP, two numbers above 0, as in 100:1", Code.OPTION_VALUE
        )
    return rule


def costs_of(
    labels: Labels, scores: Floats, amounts: Floats, threshold: float, prices: LeastCost
) -> Costs:
    """Return the costs of n > 0 rows.

    Args:
      labels: int8[n], 1 is fraud.
      scores: float64[n].
      amounts: float64[n], amounts of the transactions.
      threshold: the current threshold.
      prices: prices of a missed fraud and of a false alarm.
    """
    fixed = np.where(labels == 1, prices.missed, 0.0)
    by_amount = np.where(labels == 1, np.maximum(amounts, 0.0), 0.0)
    return Costs(
        prices.missed,
        prices.false_alarm,
        _cost_curve(labels, scores, fixed, prices.false_alarm, threshold),
        _cost_curve(labels, scores, by_amount, prices.false_alarm, threshold),
    )


def _cost_curve(
    labels: Labels, scores: Floats, losses: Floats, false_alarm: float, threshold: float
) -> CostCurve:
    points = operating_points(labels, scores, 0.0)
    saved = np.cumsum(losses[np.argsort(-scores, kind="stable")])[points.flagged - 1]
    nothing = float(losses.sum())
    costs = nothing - saved + false_alarm * (points.flagged - points.caught)
    best = int(np.argmin(costs))
    flagged = scores >= threshold
    in_use = losses[~flagged].sum() + false_alarm * np.sum(flagged & (labels == 0))
    some = bool(costs[best] < nothing)
    at = thinned(points)
    return CostCurve(
        thresholds=points.thresholds[at],
        costs=costs[at],
        in_use=float(in_use),
        nothing_flagged=nothing,
        least=float(costs[best]) if some else nothing,
        best_threshold=float(points.thresholds[best]) if some else None,
    )


#: Minimum rows of the highest bin.
_BIN_ROWS = 50


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
    halvings = max(1, int(np.log2(max(len(scores) / _BIN_ROWS, 1))) + 1)
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

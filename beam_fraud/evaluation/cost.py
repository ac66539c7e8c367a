"""The cost of missed frauds and false alarms at every threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_fraud.errors import Code, UsageError
from beam_fraud.evaluation.curves import thinned
from beam_fraud.evaluation.rows import Floats, Labels
from beam_fraud.models.threshold import LeastCost, operating_points, parse_threshold


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
        _curve(labels, scores, fixed, prices.false_alarm, threshold),
        _curve(labels, scores, by_amount, prices.false_alarm, threshold),
    )


def _curve(
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

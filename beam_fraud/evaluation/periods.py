"""Figures by day and by week."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from beam_fraud.evaluation.rows import EvaluatedRows, Floats
from beam_fraud.models.handbook import daily_card_precision
from beam_fraud.models.metrics import average_precision
from beam_fraud.models.reference import (
    SCORE,
    SCORE_QUANTILES,
    Distribution,
    Reference,
    bin_edges,
    count_bins,
)
from beam_fraud.schema.duration import DAY


@dataclass(frozen=True)
class Day:
    """The figures of a day."""

    #: ISO 8601.
    date: str
    #: Transactions.
    rows: int
    #: Frauds among them.
    frauds: int
    #: Rows flagged.
    alerts: int
    #: Frauds among the flagged.
    caught: int
    #: Precision; None if nothing is flagged.
    precision: float | None
    #: Card precision@k of the day; None without accounts.
    card_precision: float | None


def days_of(rows: EvaluatedRows, scores: Floats, threshold: float, cards: int) -> tuple[Day, ...]:
    """Return the days that have transactions, in order.

    Args:
      rows: n > 0 rows.
      scores: float64[n].
      threshold: a score of at least this is flagged.
      cards: k, the cards checked per day; a card found to be compromised is not checked again.
    """
    days, places = np.unique(rows.times // DAY, return_inverse=True)
    flagged = scores >= threshold
    counts = [
        np.bincount(places, weights, len(days)).astype(int).tolist()
        for weights in (None, rows.labels, flagged, flagged & (rows.labels == 1))
    ]
    precisions: list[float] | list[None] = [None] * len(days)
    if rows.accounts is not None:
        precisions = daily_card_precision(rows.times, rows.accounts, rows.labels, scores, cards)
    return tuple(
        Day(str(np.datetime64(int(day), "D")), n, f, alerts, caught, share, of_cards)
        for day, n, f, alerts, caught, of_cards in zip(days, *counts, precisions, strict=True)
        for share in [caught / alerts if alerts else None]
    )


#: 1970-01-01 was a Thursday; weeks start on Mondays.
_MONDAY = 3 * DAY
_WEEK = 7 * DAY


@dataclass(frozen=True)
class Week:
    """The rows of a week."""

    #: Its Monday, ISO 8601.
    start: str
    #: Transactions.
    rows: int
    #: Frauds among them.
    frauds: int
    #: Average precision; None with one class.
    average_precision: float | None
    #: Share of flagged rows.
    alert_rate: float
    #: Population stability index of the scores against the reference.
    score_shift: float


@dataclass(frozen=True)
class Stability:
    """The weeks that have transactions, in order."""

    #: Reference of the scores: rows held back in training, or the first week.
    reference: Literal["training", "first week"]
    #: In order.
    weeks: tuple[Week, ...]


def stability_of(
    rows: EvaluatedRows, scores: Floats, threshold: float, reference: Reference
) -> Stability:
    """Return figures by week.

    Args:
      rows: n > 0 rows.
      scores: float64[n].
      threshold: a score of at least this is flagged.
      reference: reference distributions of the bundle; may be empty.
    """
    numbers = (rows.times + _MONDAY) // _WEEK
    weeks = np.unique(numbers)
    known = {d.feature: d for d in reference.distributions}.get(SCORE)
    first = scores[numbers == weeks[0]]
    expected = known or count_bins(SCORE, first, bin_edges(first, SCORE_QUANTILES))
    return Stability(
        "first week" if known is None else "training",
        tuple(
            _week(int(week), rows.labels[at], scores[at], threshold, expected)
            for week in weeks
            for at in [numbers == week]
        ),
    )


def population_stability(expected: npt.NDArray[np.int64], observed: npt.NDArray[np.int64]) -> float:
    """Return the population stability index of counts in the same bins.

    The sum of (q - p) ln(q / p) over the bins, with the shares p of expected and q of found rows
    (Siddiqi, "Credit Risk Scorecards", 2006): below 0.1 is a negligible shift, above 0.25 a large
    one. Half a row is added to every bin, so that an empty one counts as rare.

    Example:
      >>> population_stability(np.array([90, 10]), np.array([90, 10]))
      0.0
    """
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (expected, observed))
    return float(np.sum((q - p) * np.log(q / p)))


def _week(
    number: int,
    labels: npt.NDArray[np.int8],
    scores: Floats,
    threshold: float,
    expected: Distribution,
) -> Week:
    frauds = int(labels.sum())
    observed = count_bins(SCORE, scores, expected.edges)
    monday = np.datetime64((number * _WEEK - _MONDAY) // DAY, "D")
    return Week(
        start=str(monday),
        rows=len(labels),
        frauds=frauds,
        average_precision=average_precision(labels, scores),
        alert_rate=float(np.mean(scores >= threshold)),
        score_shift=population_stability(np.array(expected.counts), np.array(observed.counts)),
    )

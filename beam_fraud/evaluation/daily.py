"""Daily figures, as a team of analysts would see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_fraud.evaluation.rows import EvaluatedRows, Floats
from beam_fraud.models.handbook import daily_card_precision
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

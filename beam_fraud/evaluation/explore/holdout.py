"""Propose a split by time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_fraud.evaluation.explore.rows import Rows
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros, moment_of

#: Share of test rows, the latest.
_TESTED = 0.2
#: Default label delay: a week, as in the fraud-detection handbook.
_ASSUMED_DELAY = 7 * DAY
#: Maximum share of the gap for labels in the time before the test.
_MOST_OF_TRAINING = 0.25
#: Share of frauds whose labels the gap waits for.
_WAITED_FOR = 0.95
#: Days of data from which boundaries are moved to midnight.
_DAYS_TO_ROUND = 10


@dataclass(frozen=True)
class Holdout:
    """A split: training rows, a gap, and later test rows."""

    #: First event time after the rows to train on, ISO 8601, UTC.
    train_until: str
    #: First event time of the rows to test on.
    test_from: str
    #: Label delay in days.
    label_delay_days: float
    #: Whether it was measured (`labelled_at`) or assumed.
    delay_measured: bool
    #: Whether the data allow a gap of that length.
    gap: bool
    #: Rows to train on.
    train_rows: int
    #: Frauds among them.
    train_frauds: int
    #: Rows to test on.
    test_rows: int
    #: Frauds among them.
    test_frauds: int


def holdout(rows: Rows) -> Holdout | None:
    """Split n > 0 rows by time; return None if a side would be empty."""
    times = event_micros(rows.transactions)
    first, last = int(times[0]), int(times[-1])
    test_from = int(times[len(times) - max(int(len(times) * _TESTED), 1)])
    if last - first > _DAYS_TO_ROUND * DAY:
        test_from -= test_from % DAY
    delay = _measured_delay(rows)
    waited = _ASSUMED_DELAY if delay is None else delay
    gap = waited <= _MOST_OF_TRAINING * (test_from - first)
    train_until = test_from - (waited if gap else 0)
    trained, tested = (int(times.searchsorted(moment)) for moment in (train_until, test_from))
    if not trained:
        return None
    return Holdout(
        train_until=_written(train_until),
        test_from=_written(test_from),
        label_delay_days=round(waited / DAY, 2),
        delay_measured=delay is not None,
        gap=gap,
        train_rows=trained,
        train_frauds=int(rows.fraud[:trained].sum()),
        test_rows=len(times) - tested,
        test_frauds=int(rows.fraud[tested:].sum()),
    )


def _written(micros: int) -> str:
    """Format a time for options: a date alone for midnight."""
    text = moment_of(micros).isoformat()
    return text.removesuffix("T00:00:00+00:00").replace("+00:00", "Z")


def _measured_delay(rows: Rows) -> int | None:
    table = rows.transactions
    if "labelled_at" not in table.schema.names:
        return None
    known = rows.fraud & np.asarray(table.column("labelled_at").is_valid(), dtype=bool)
    if not known.any():
        return None
    seen = np.asarray(table.column("labelled_at").cast("int64").fill_null(0), dtype=np.int64)
    return max(int(np.quantile((seen - event_micros(table))[known], _WAITED_FOR)), 0)

"""Where a split by time would fall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_fraud.evaluation.explore.rows import Rows
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros, moment_of

#: Share of the rows, the latest, to test on.
_TESTED = 0.2
#: How long a label takes where nobody says: a week, as in the fraud-detection handbook.
_ASSUMED_DELAY = 7 * DAY
#: The gap for late labels may take so much of the time before the test.
_MOST_OF_TRAINING = 0.25
#: Share of the frauds whose labels the gap waits for.
_WAITED_FOR = 0.95
#: A first moment is put to midnight where rows span more than so many days.
_DAYS_TO_ROUND = 10


@dataclass(frozen=True)
class Holdout:
    """Rows to train on, a gap, and later rows to test on."""

    #: First event time after the rows to train on, ISO 8601, UTC.
    train_until: str
    #: First event time of the rows to test on.
    test_from: str
    #: How long labels take, in days.
    label_delay_days: float
    #: Whether the data say so (`labelled_at`); else it is assumed.
    delay_measured: bool
    #: Whether there is time enough for a gap as long as that.
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
    """Split n > 0 rows by time; None if all are of one moment, or on one side."""
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
    """Return a moment as options take it: a date alone where it is midnight."""
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

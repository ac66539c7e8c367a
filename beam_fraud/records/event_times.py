"""The event times of an input: their span, and whether they can be those of card payments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from beam_fraud.records.doubts import TIME_SETTING, Doubt, other_form
from beam_fraud.schema.duration import DAY, SECOND
from beam_fraud.schema.event_time import moment_of

#: Microseconds of the epoch before which hardly a card payment was recorded.
EARLIEST_PLAUSIBLE = int(datetime(1990, 1, 1, tzinfo=UTC).timestamp()) * SECOND
#: Rows from which numbers of an assumed unit must span more than a minute, and more than a day.
_MANY_A_MINUTE, _MANY_A_DAY = 100, 10_000


@dataclass(frozen=True)
class EventTimes:
    """The event times of the valid rows of an input."""

    #: Number of the rows.
    rows: int = 0
    #: Microseconds of the epoch; None without rows.
    first: int | None = None
    last: int | None = None
    #: Rows of each doubt.
    doubts: Mapping[Doubt, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, str] | None:
        """Return `first` and `last` in ISO 8601; None without rows."""
        if self.first is None or self.last is None:
            return None
        return {"first": _iso(self.first), "last": _iso(self.last)}

    def mixture(self, column: str) -> str | None:
        """Return a message if rows are in another form than their file, else None."""
        rows = self.doubts.get(Doubt.FORM, 0)
        return f"{rows:,} {other_form(column)}" if rows else None

    def refusal(self, column: str) -> str | None:
        """Return why times are implausible, in one line with the settings; None if they are not.

        They are if most are before 1990 or still to come, or if they are numbers of an assumed unit
        and many lie within a minute (from 100 rows) or a day (from 10,000).

        Args:
          column: name of their column.

        Example:
          >>> EventTimes(9, 5_000_000, 7_000_000, {Doubt.EARLY: 9}).refusal("step")[:60]
          "9 of 9 times of column 'step' are before 1990 (1970-01-01T00"
        """
        if self.first is None or self.last is None:
            return None
        early, late = self.doubts.get(Doubt.EARLY, 0), self.doubts.get(Doubt.LATE, 0)
        times, span = f"times of column {column!r}", self.last - self.first
        if 2 * early > self.rows:
            what = f"{early:,} of {self.rows:,} {times} are before 1990"
        elif 2 * late > self.rows:
            what = f"{late:,} of {self.rows:,} {times} are still to come"
        elif 2 * self.doubts.get(Doubt.UNIT, 0) <= self.rows:
            return None
        elif span < 60 * SECOND and self.rows >= _MANY_A_MINUTE:
            what = f"{self.rows:,} {times} lie within a minute"
        elif span < DAY and self.rows >= _MANY_A_DAY:
            what = f"{self.rows:,} {times} lie within a day"
        else:
            return None
        return f"{what} ({_iso(self.first)} to {_iso(self.last)}); {TIME_SETTING}"


def _iso(micros: int) -> str:
    return moment_of(micros).isoformat(timespec="seconds")

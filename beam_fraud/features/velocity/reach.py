"""The look-back of velocity features, and the time from which windows are full."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from beam_fraud.schema.duration import DAY, HOUR, SECOND
from beam_fraud.schema.event_time import moment_of
from beam_fraud.schema.velocity import Velocity

#: Share of the look-back that may be missing without a warning: no purchase happens at the very
#: moment at which a history file starts.
_TOLERATED = 0.05


@dataclass(frozen=True)
class WindowReach:
    """The rows of a run and the earlier ones. Times are microseconds of the epoch, UTC."""

    #: Look-back of the features: longest window plus delay, microseconds.
    look_back: int
    #: Whether there are earlier rows.
    history: bool
    #: Their earliest event time; None if unknown.
    history_from: int | None = None
    #: Event time from which rows are scored or measured; None if unknown.
    first_row: int | None = None

    @property
    def full_from(self) -> int | None:
        """Event time from which windows are full; None if unknown."""
        begin = self.history_from if self.history else self.first_row
        return None if begin is None else begin + self.look_back

    @property
    def known(self) -> bool:
        """Return whether it is known if windows are full from the first row on."""
        return not self.history or (self.history_from is not None and self.first_row is not None)

    def warning(self) -> str | None:
        """Return a warning if windows are not full from the first row on; else None.

        Example:
          >>> print(WindowReach(30 * DAY, history=False).warning().partition(": ")[0])
          velocity features look back 30 days, and there are no earlier rows
        """
        if not self.history:
            what = "there are no earlier rows"
            if self.full_from is None:
                first = spoken(self.look_back)
                return self._line(what, f"windows of the first {first} are not full")
            return self._line(what, _full_from(self.full_from))
        if self.history_from is None or self.first_row is None:
            return None
        there = self.first_row - self.history_from
        if self.look_back - there <= _TOLERATED * self.look_back:
            return None
        begin = moment_of(self.history_from).isoformat()
        what = f"the rows before the first one begin {spoken(max(there, 0))} earlier, at {begin}"
        return self._line(what, _full_from(self.history_from + self.look_back))

    def measured_from(self, first_row: int) -> WindowReach:
        """Return the reach if only rows from a time on matter: earlier rows fill windows."""
        begin = self.history_from if self.history else self.first_row
        history = begin is not None and begin < first_row
        return replace(
            self, history=history, history_from=begin if history else None, first_row=first_row
        )

    def to_dict(self) -> dict[str, object]:
        """Return the form in summaries: `look_back_seconds`, and times in ISO 8601 or None."""
        times = {
            "history_from": self.history_from,
            "first_row": self.first_row,
            "full_from": self.full_from,
        }
        return {
            "look_back_seconds": self.look_back // SECOND,
            **{name: t if t is None else moment_of(t).isoformat() for name, t in times.items()},
        }

    def _line(self, what: str, consequence: str) -> str:
        back = spoken(self.look_back)
        return (
            f"velocity features look back {back}, and {what}: {consequence}; give earlier "
            "transactions as --history"
        )


def look_back(definitions: Iterable[Velocity]) -> int:
    """Return the longest look-back of the definitions in microseconds; 0 without any."""
    return max((definition.horizon for definition in definitions), default=0)


def _full_from(moment: int) -> str:
    return f"windows are full only for rows from {moment_of(moment).isoformat()} on"


def spoken(micros: int) -> str:
    """Format microseconds in words.

    >>> spoken(37 * DAY), spoken(DAY), spoken(90 * 60 * SECOND), spoken(30 * SECOND)
    ('37 days', '1 day', '1.5 hours', '30 seconds')
    """
    name, unit = next(
        (one for one in (("day", DAY), ("hour", HOUR)) if micros >= one[1]), ("second", SECOND)
    )
    number = f"{micros / unit:.1f}".removesuffix(".0")
    return f"{number} {name}{'' if number == '1' else 's'}"

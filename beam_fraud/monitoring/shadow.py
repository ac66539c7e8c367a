"""How challengers in shadow agree with the champion, and what they cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import msgspec

#: Prefix of counters of a challenger: then its id, a colon and one of `_COUNTED`.
PREFIX = "shadow:"
#: Prefix of the times at which challengers were dropped: then id, a colon and the reason.
DROPPED_PREFIX = "shadow_dropped:"
_COUNTED = ("rows", "agreed", "either", "both", "nanoseconds")


class Dropped(msgspec.Struct, frozen=True, array_like=True):
    """The end of a challenger in shadow."""

    #: Seconds of the epoch.
    since: float
    reason: str


@dataclass(frozen=True)
class ShadowFigures:
    """The rows of a challenger, compared with the champion's."""

    rows: int = 0
    #: Rows with the champion's decision.
    agreed: int = 0
    #: Rows that the champion or the challenger flags, and that both flag.
    either: int = 0
    both: int = 0
    #: Processor time of its scores and decisions.
    nanoseconds: int = 0
    #: Why it scores no longer, or None.
    dropped: Dropped | None = None

    def plus(self, more: ShadowFigures) -> ShadowFigures:
        """Return the figures of all rows of both."""
        return replace(
            self, **{name: getattr(self, name) + getattr(more, name) for name in _COUNTED}
        )

    @property
    def microseconds(self) -> float | None:
        """Microseconds per row; None without rows."""
        return self.nanoseconds / self.rows / 1e3 if self.rows else None

    @property
    def agreement(self) -> float | None:
        """Share of rows with the champion's decision; None without rows."""
        return self.agreed / self.rows if self.rows else None

    @property
    def flagged_agreement(self) -> float | None:
        """Return the share that both flag of the rows that either flags; None without any."""
        return self.both / self.either if self.either else None

    def counters(self, key: str) -> dict[str, int]:
        """Return counters, by name, of a challenger's id."""
        return {f"{PREFIX}{key}:{name}": getattr(self, name) for name in _COUNTED}

    def to_dict(self) -> dict[str, object]:
        """Return the figures as in `summary.json`."""
        dropped = self.dropped
        return {
            "rows": self.rows,
            "microseconds_per_row": _rounded(self.microseconds, 3),
            "agreement": _rounded(self.agreement, 6),
            "flagged_agreement": _rounded(self.flagged_agreement, 6),
            "dropped": None
            if dropped is None
            else {
                "reason": dropped.reason,
                "since": datetime.fromtimestamp(round(dropped.since), UTC).isoformat(),
            },
        }


class ShadowTotals(msgspec.Struct, frozen=True):
    """The challengers in shadow of a server, or of several."""

    #: By their ids.
    figures: dict[str, ShadowFigures] = {}
    #: Rows that wait for them, and that they did not get.
    waiting: int = 0
    left_out: int = 0

    def about(self) -> dict[str, object]:
        """Return them as in `/model` and the result of the command."""
        shown = {key: one.to_dict() for key, one in self.figures.items()}
        return {"shadows": shown, "rows_not_shadowed": self.left_out}


def shadow_figures(
    counted: Mapping[str, int],
    dropped: Mapping[str, Dropped],
    known: Collection[str] = (),
) -> dict[str, ShadowFigures]:
    """Return the figures of challengers by their ids.

    Args:
      counted: counters, among others those of `ShadowFigures.counters`.
      dropped: id to the end of a challenger.
      known: ids of challengers that may have no rows.

    Example:
      >>> figures = ShadowFigures(rows=4, agreed=3, either=2, both=1, nanoseconds=8_000)
      >>> [(key, one)] = shadow_figures(figures.counters("a@1"), {}).items()
      >>> key, one == figures, one.microseconds, one.agreement, one.flagged_agreement
      ('a@1', True, 2.0, 0.75, 0.5)
    """
    values: dict[str, dict[str, int]] = {key: {} for key in (*known, *dropped)}
    for name, count in counted.items():
        if name.startswith(PREFIX):
            key, _, what = name.removeprefix(PREFIX).rpartition(":")
            values.setdefault(key, {})[what] = count
    return {key: ShadowFigures(**of, dropped=dropped.get(key)) for key, of in values.items()}


def dropped_in(counted: Mapping[str, int], known: Collection[str]) -> dict[str, Dropped]:
    """Return the challengers, of the `known` ids, that a graph's counters call dropped."""
    found: dict[str, Dropped] = {}
    for name, since in counted.items():
        for key in known:
            start = f"{DROPPED_PREFIX}{key}:"
            if name.startswith(start) and (key not in found or since < found[key].since):
                found[key] = Dropped(since, name.removeprefix(start))
    return found


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)

"""How late rows arrive: how far behind the newest event time that was decided before them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beam_fraud.schema.duration import DAY, SECOND

#: Microseconds of a minute.
_MINUTE = 60 * SECOND
Micros = npt.NDArray[np.int64]
#: Minutes that later rows are compared with: the clocks of workers may differ by some.
_REMEMBERED = 5


@dataclass(frozen=True, eq=False)
class Arrivals:
    """The newest event time of each minute in which rows were decided.

    A minute is the resolution: within one, no row is late.
    """

    #: int64[m], minutes since 1970, increasing.
    minutes: Micros
    #: int64[m], microseconds.
    newest: Micros

    def __eq__(self, other: object) -> bool:
        """Return whether the minutes and times are the same."""
        return (
            isinstance(other, Arrivals)
            and np.array_equal(self.minutes, other.minutes)
            and np.array_equal(self.newest, other.newest)
        )

    @classmethod
    def of_rows(cls, event_times: Micros, decided_at: Micros) -> Arrivals:
        """Return those of n rows.

        A row from over a day after its decision does not count: a wrong clock would make all rows
        after it late.

        Args:
          event_times: int64[n], microseconds.
          decided_at: int64[n], microseconds.
        """
        possible = event_times <= decided_at + DAY
        if not possible.all():
            event_times, decided_at = event_times[possible], decided_at[possible]
        decided_in = decided_at // _MINUTE
        if len(decided_in) and decided_in.min() == decided_in.max():
            # Rows of a block are decided at once, and a sort would take most of the time.
            return cls(decided_in[:1], event_times.max(keepdims=True))
        minutes, places = np.unique(decided_in, return_inverse=True)
        newest = np.full(len(minutes), np.iinfo(np.int64).min)
        np.maximum.at(newest, places, event_times)
        return cls(minutes, newest)

    @classmethod
    def merged(cls, parts: Iterable[Arrivals]) -> Arrivals:
        """Return those of all parts, in any order."""
        every = list(parts)
        empty = np.zeros(0, np.int64)
        given = np.concatenate([empty, *(part.minutes for part in every)])
        minutes, places = np.unique(given, return_inverse=True)
        newest = np.full(len(minutes), np.iinfo(np.int64).min)
        np.maximum.at(newest, places, np.concatenate([empty, *(part.newest for part in every)]))
        return cls(minutes, newest)

    def latest(self) -> Arrivals:
        """Return what later rows are compared with: the last minutes, and what came before."""
        newest = np.maximum.accumulate(self.newest)
        return Arrivals(self.minutes[-_REMEMBERED:], newest[-_REMEMBERED:])

    def lateness(self, event_times: Micros, decided_at: Micros) -> npt.NDArray[np.float64]:
        """Return how far each row is behind the newest before its minute, float64[n], seconds.

        0 for rows that are not behind; NaN for those of the first minute.

        Args:
          event_times: int64[n], microseconds.
          decided_at: int64[n], microseconds.

        Example:
          >>> minute = 60_000_000
          >>> times = np.array([5, 6, 2]) * minute
          >>> arrivals = Arrivals.of_rows(times, times + np.array([0, 0, 5 * minute]))
          >>> arrivals.lateness(times, times + np.array([0, 0, 5 * minute])).tolist()
          [nan, 0.0, 240.0]
        """
        before = np.searchsorted(self.minutes, decided_at // _MINUTE, side="left")
        newest = np.maximum.accumulate(self.newest)
        known = before > 0
        behind = newest[np.maximum(before - 1, 0)] - event_times if len(newest) else event_times
        return np.where(known, np.maximum(behind, 0) / SECOND, np.nan)

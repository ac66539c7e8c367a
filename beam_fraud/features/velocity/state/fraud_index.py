"""Known frauds in order of key and time, counted in windows as they were visible at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beam_fraud.errors import FraudError
from beam_fraud.features.hashing import Hashes
from beam_fraud.features.velocity.key_rows import Frauds
from beam_fraud.features.velocity.state.key_times import Frame, Integers, KeyTimes

#: Later than any event.
_FAR = np.iinfo(np.int64).max >> 1


def due(frauds: Frauds, delay: int) -> Integers:
    """When frauds begin to count in windows that end `delay` microseconds before now, int64[m]."""
    return np.maximum(frauds.time + delay, frauds.visible)


@dataclass(frozen=True)
class FraudIndex:
    """Frauds as windows are counted: all by event time, less those that are not yet visible."""

    #: uint64[keys], ascending; a key's place is its slot.
    keys: Hashes
    #: By event time.
    events: KeyTimes
    #: Those that become visible later than a window with the shortest delay can hold them, by the
    #: time when they do.
    slow: KeyTimes
    #: int64[slow], their event times.
    slow_event: Integers

    @classmethod
    def of(cls, frauds: Frauds, delay: int) -> FraudIndex:
        """Put frauds in order.

        Args:
          frauds: in any order.
          delay: the shortest delay of any window, microseconds.

        Raises:
          FraudError: there are too many keys with frauds.
        """
        keys, slots = np.unique(frauds.key, return_inverse=True)
        slow = np.flatnonzero(frauds.visible > frauds.time + delay)
        keyed, order = _sorted(slots[slow], frauds.visible[slow])
        return cls(keys, _sorted(slots, frauds.time)[0], keyed, frauds.time[slow][order])

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        arrays = (self.keys, self.events.numbers, self.slow.numbers, self.slow_event)
        return sum(array.nbytes for array in arrays)

    def counts(
        self, keys: Hashes, times: Integers, windows: Sequence[tuple[int, int]]
    ) -> list[Integers]:
        """Known frauds in windows.

        Args:
          keys: uint64[n].
          times: int64[n], now.
          windows: ages in microseconds at which windows start and end.

        Returns:
          Of each window int64[n].
        """
        counts = [np.zeros(len(keys), dtype=np.int64) for _ in windows]
        if not len(self.keys):
            return counts
        slots = np.minimum(self.keys.searchsorted(keys), len(self.keys) - 1)
        rows = np.flatnonzero(self.keys[slots] == keys)
        if not len(rows):
            return counts
        slots, times = slots[rows], times[rows]
        ages = np.array(windows, dtype=np.int64).reshape(-1, 1)
        positions = self.events.positions(slots, times - ages).reshape(len(windows), 2, -1)
        for count, (first, last) in zip(counts, positions, strict=True):
            count[rows] = last - first
        if len(self.slow):
            hidden, event = self._not_yet_visible(slots, times)
            age = times[hidden] - event
            for count, (start, end) in zip(counts, windows, strict=True):
                unseen = hidden[(age < start) & (age >= end)]
                count[rows] -= np.bincount(unseen, minlength=len(rows))
        return counts

    def _not_yet_visible(self, slots: Integers, times: Integers) -> tuple[Integers, Integers]:
        """Frauds of the rows' keys that are not visible at the rows' times.

        Returns:
          int64[h] each: place of the row, event time of the fraud.
        """
        moments = np.stack((times, np.full_like(times, _FAR)))
        first, end = self.slow.positions(slots, moments)
        sizes = end - first
        row = np.repeat(np.arange(len(slots)), sizes)
        frauds = np.arange(len(row)) + np.repeat(first - (np.cumsum(sizes) - sizes), sizes)
        return row, self.slow_event[frauds]


def _sorted(slots: Integers, times: Integers) -> tuple[KeyTimes, Integers]:
    first, last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
    frame = Frame.around(first, last)
    if len(slots) and int(slots.max()) >= frame.capacity:
        raise FraudError("too many keys with frauds for one state: use more shards")
    numbers = frame.numbers(slots, times)
    order = np.argsort(numbers, kind="stable")
    return KeyTimes(frame, numbers[order]), order

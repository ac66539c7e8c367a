"""Keys and times of many rows in one sorted array, searched for many windows at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

#: Bits for slot and time: a signed word without its sign.
_BITS = 63


@dataclass(frozen=True)
class Frame:
    """Encoding of slot and time as one number: `slot << bits | time - origin`."""

    #: Earliest encodable time, microseconds.
    origin: int
    #: Bits for the time.
    bits: int

    @classmethod
    def around(cls, first: int, last: int) -> Frame:
        """Return the frame of the times from `first` to `last`."""
        return cls(first, (last - first).bit_length())

    @property
    def end(self) -> int:
        """First time after the encodable ones."""
        return self.origin + (1 << self.bits)

    @property
    def capacity(self) -> int:
        """Number of encodable slots."""
        return 1 << (_BITS - self.bits)

    def numbers(self, slots: Integers, times: Integers) -> Integers:
        """Encode rows (int64[n] each) whose times are in the frame."""
        return (slots << self.bits) + (times - self.origin)


@dataclass(frozen=True)
class KeyTimes:
    """Slots and times of n rows, ordered by slot, then time.

    Example:
      >>> frame = Frame.around(100, 109)
      >>> rows = KeyTimes(frame, frame.numbers(np.array([0, 0, 2]), np.array([101, 104, 101])))
      >>> rows.positions(np.array([0, 2]), np.array([[90, 90], [103, 103]])).tolist()
      [[0, 2], [1, 3]]
    """

    #: Frame of `numbers`.
    frame: Frame
    #: int64[n], ascending.
    numbers: Integers

    def __len__(self) -> int:
        return len(self.numbers)

    def positions(self, slots: Integers, times: Integers) -> Integers:
        """Return the number of rows up to the end of each window.

        Args:
          slots: int64[m].
          times: int64[k, m], last times of the windows.

        Returns:
          int64[k, m]: rows of smaller slots, and those of the slot up to and including the time. A
          window holds the rows from its start's position to its end's.
        """
        frame = self.frame
        # One before the origin is after the last row of the previous slot.
        needles = times - frame.origin
        np.maximum(needles, -1, out=needles)
        np.minimum(needles, (1 << frame.bits) - 1, out=needles)
        needles += slots << frame.bits
        # Search in ascending order: neighbours share a part of memory.
        positions = self.numbers.searchsorted(needles.T.ravel(), "right")
        return np.ascontiguousarray(positions.reshape(needles.T.shape).T)

    def times(self, rows: Integers) -> Integers:
        """Return the times of some rows, int64 of the shape of `rows`."""
        return (self.numbers[rows] & ((1 << self.frame.bits) - 1)) + self.frame.origin

    def time(self, row: int) -> int:
        """Return the time of a row."""
        return (int(self.numbers[row]) & ((1 << self.frame.bits) - 1)) + self.frame.origin

    def slots(self) -> Integers:
        """Return the slots of all rows, int64[n]."""
        return self.numbers >> self.frame.bits

    def since(self, origin: int) -> tuple[Integers, npt.NDArray[np.bool_] | None]:
        """Return the rows from a time on, encoded in a frame of equal bits that starts there.

        Returns:
          int64[r], and bool[n]: the selected rows, or None for all.
        """
        shift = origin - self.frame.origin
        if shift <= 0:
            return (self.numbers - shift if shift else self.numbers), None
        selected = (self.numbers & ((1 << self.frame.bits) - 1)) >= shift
        if selected.all():
            return self.numbers - shift, None
        return self.numbers[selected] - shift, selected


def merge_order(older: Integers, newer: Integers) -> Integers:
    """Return the order that merges two ascending arrays, the older first on ties.

    Returns:
      int64[n + m]: positions in their concatenation.
    """
    n, m = len(older), len(newer)
    places = older.searchsorted(newer, "right") + np.arange(m)
    order = np.empty(n + m, dtype=np.int64)
    from_older = np.ones(n + m, dtype=bool)
    from_older[places] = False
    order[places] = np.arange(n, n + m)
    order[from_older] = np.arange(n)
    return order

"""Keys and times of many rows as one sorted array, searched for many windows at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

#: Bits for slot and time together: a signed word without its sign.
_BITS = 63


@dataclass(frozen=True)
class Frame:
    """How a slot and a time become one number: `slot << bits | time - origin`."""

    #: The earliest time that has a number, microseconds.
    origin: int
    #: Bits for the time.
    bits: int

    @classmethod
    def around(cls, first: int, last: int) -> Frame:
        """Return the frame of the times from `first` to `last`."""
        return cls(first, (last - first).bit_length())

    @property
    def end(self) -> int:
        """The first time after the origin that has no number."""
        return self.origin + (1 << self.bits)

    @property
    def capacity(self) -> int:
        """How many slots have numbers."""
        return 1 << (_BITS - self.bits)

    def numbers(self, slots: Integers, times: Integers) -> Integers:
        """Numbers of rows (int64[n] each), whose times are in the frame."""
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

    #: How `numbers` came about.
    frame: Frame
    #: int64[n], ascending.
    numbers: Integers

    def __len__(self) -> int:
        return len(self.numbers)

    def positions(self, slots: Integers, times: Integers) -> Integers:
        """Return how many rows come before the end of each of the windows.

        Args:
          slots: int64[m].
          times: int64[k, m], the last moments of windows.

        Returns:
          int64[k, m]: rows of smaller slots, and those of the slot up to and including the moment.
          A window holds the rows from its start's position to its end's.
        """
        frame = self.frame
        # One before the origin is behind the last row of the slot before.
        needles = times - frame.origin
        np.maximum(needles, -1, out=needles)
        np.minimum(needles, (1 << frame.bits) - 1, out=needles)
        needles += slots << frame.bits
        # In ascending order, for neighbours are found in the same part of the memory.
        found = self.numbers.searchsorted(needles.T.ravel(), "right")
        return np.ascontiguousarray(found.reshape(needles.T.shape).T)

    def times(self, rows: Integers) -> Integers:
        """Times of some rows, int64 of the shape of `rows`."""
        return (self.numbers[rows] & ((1 << self.frame.bits) - 1)) + self.frame.origin

    def slots(self) -> Integers:
        """Slots of all rows, int64[n]."""
        return self.numbers >> self.frame.bits

    def since(self, origin: int) -> tuple[Integers, npt.NDArray[np.bool_] | None]:
        """Numbers of the rows from a time on, in a frame with as many bits that starts there.

        Returns:
          int64[r], and bool[n]: which rows they are, or None for all.
        """
        shift = origin - self.frame.origin
        if shift <= 0:
            return (self.numbers - shift if shift else self.numbers), None
        kept = (self.numbers & ((1 << self.frame.bits) - 1)) >= shift
        if kept.all():
            return self.numbers - shift, None
        return self.numbers[kept] - shift, kept


def merge_order(older: Integers, newer: Integers) -> Integers:
    """How two ascending arrays become one, the older first among equals.

    Returns:
      int64[n + m]: places in their concatenation.
    """
    n, m = len(older), len(newer)
    places = older.searchsorted(newer, "right") + np.arange(m)
    order = np.empty(n + m, dtype=np.int64)
    from_older = np.ones(n + m, dtype=bool)
    from_older[places] = False
    order[places] = np.arange(n, n + m)
    order[from_older] = np.arange(n)
    return order

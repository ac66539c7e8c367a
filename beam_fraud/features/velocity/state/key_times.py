"""Keys and times of many rows in one sorted array, searched for many windows at once."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_fraud.features.hashing import Hashes

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
        if needles.size >= _MANY_NEEDLES and self._dense:
            return self._cells.positions(needles.ravel()).reshape(needles.shape)
        # Search in ascending order: neighbours share a part of memory.
        positions = self.numbers.searchsorted(needles.T.ravel(), "right")
        return np.ascontiguousarray(positions.reshape(needles.T.shape).T)

    @property
    def _dense(self) -> bool:
        """Return whether there are many rows, and no fewer than slots."""
        return len(self) >= _MANY_ROWS and len(self) > int(self.numbers[-1]) >> self.frame.bits

    @cached_property
    def _cells(self) -> _Cells:
        return _Cells.of(self)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        cells: _Cells | None = self.__dict__.get("_cells")
        return self.numbers.nbytes + (0 if cells is None else cells.starts.nbytes)

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


#: Searches, and rows, from which cells are worth while.
_MANY_NEEDLES, _MANY_ROWS = 256, 1 << 16
#: Rows up to which there are more cells than rows.
_FINE_ROWS = 1 << 20


@dataclass(frozen=True)
class _Cells:
    """Where the rows of each slot and of parts of the frame's time begin.

    A binary search among millions of rows waits for memory at most of its steps. The cell of a
    time is computed, and holds a row or two.
    """

    #: int64[n], `KeyTimes.numbers`.
    numbers: Integers
    #: Bits of a number below those of its cell.
    shift: int
    #: Integers[cells + 3]: 0, position of the first row of each cell, and n twice.
    starts: npt.NDArray[np.signedinteger[Any]]

    @classmethod
    def of(cls, rows: KeyTimes) -> _Cells:
        """Return the cells of n > 0 rows, about as many as rows."""
        numbers, bits, n = rows.numbers, rows.frame.bits, len(rows)
        slots = (int(numbers[-1]) >> bits) + 1
        parts = (n // slots).bit_length() - (n > _FINE_ROWS)
        shift = max(bits - parts, 0)
        ends = np.cumsum(np.bincount(numbers >> shift, minlength=slots << (bits - shift)))
        word = np.int32 if n < 1 << 31 else np.int64
        starts: npt.NDArray[np.signedinteger[Any]] = np.zeros(len(ends) + 3, dtype=word)
        starts[2:-1], starts[-1] = ends, n
        return cls(numbers, shift, starts)

    def positions(self, needles: Integers) -> Integers:
        """Return the number of rows up to each needle, int64[m] of int64[m]."""
        cell = np.clip((needles >> self.shift) + 1, 0, len(self.starts) - 2)
        positions: Integers = self.starts[cell].astype(np.int64)
        ends = self.starts[cell + 1]
        left = np.flatnonzero(positions < ends)
        first, end, needle = positions[left], ends[left].astype(np.int64), needles[left]
        while len(left):
            middle = (first + end) >> 1
            before = self.numbers[middle] <= needle
            first, end = np.where(before, middle + 1, first), np.where(before, end, middle)
            positions[left] = first
            more = np.flatnonzero(first < end)
            left, first, end, needle = left[more], first[more], end[more], needle[more]
        return positions


def position_of(keys: Hashes, key: int) -> int | None:
    """Return the position of a key among ascending ones (uint64[n]); None if it is not there."""
    # Without an array of one key, which takes longer than the search.
    ascending = keys.data
    place = bisect_left(ascending, key)
    return place if place < len(ascending) and ascending[place] == key else None


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

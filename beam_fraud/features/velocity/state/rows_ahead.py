"""Rows too far ahead of the clock for the frame of the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from beam_fraud.features.hashing import Hashes
from beam_fraud.features.velocity.key_rows import KeyRows
from beam_fraud.features.velocity.large_sums import Load
from beam_fraud.features.velocity.state.key_times import Frame, Integers, KeyTimes
from beam_fraud.features.velocity.state.row_run import RowRun
from beam_fraud.features.velocity.state.window_plan import WindowPlan
from beam_fraud.features.velocity.state.window_scan import WindowScan

#: Join a part with the next one unless it is more than this many times as long.
_GROWTH = 8
#: Slot of unknown keys.
_NO_SLOT = -1


@dataclass(frozen=True)
class _Part:
    """Some rows, with their own slots."""

    #: n rows in order of arrival.
    rows: KeyRows
    #: uint64[keys], ascending; a key's position is its slot.
    keys: Hashes
    #: The rows sorted by slot and time.
    run: RowRun

    @classmethod
    def of(cls, rows: KeyRows, plan: WindowPlan) -> Iterator[_Part]:
        """Yield all rows; in several parts if many keys span too long a time."""
        if not len(rows):
            return
        keys, slots = np.unique(rows.key, return_inverse=True)
        first, last = int(rows.time.min()), int(rows.time.max())
        frame = Frame.around(first, last)
        if len(keys) > frame.capacity:
            late = rows.time > first + (last - first) // 2
            yield from cls.of(rows.take(~late), plan)
            yield from cls.of(rows.take(late), plan)
            return
        numbers = frame.numbers(slots, rows.time)
        order = np.argsort(numbers, kind="stable")
        merchant = None if rows.merchant is None else rows.merchant[order]
        keyed = KeyTimes(frame, numbers[order])
        yield cls(rows, keys, RowRun.of(keyed, first, rows.amount[order], merchant, plan))

    def slots(self, keys: Hashes) -> Integers:
        """Return the slots of keys, int64[m]."""
        slots = np.minimum(self.keys.searchsorted(keys), len(self.keys) - 1)
        return np.where(self.keys[slots] == keys, slots, _NO_SLOT)


class RowsAhead:
    """The rows ahead, usually few: those of the clock's last blocks, and of wrong clocks.

    Args:
      plan: fields to store of a row.
    """

    def __init__(self, plan: WindowPlan) -> None:
        self._plan = plan
        self._parts: list[_Part] = []

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self._parts)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(
            part.run.nbytes + part.keys.nbytes + 4 * part.rows.key.nbytes for part in self._parts
        )

    @property
    def load(self) -> Load:
        """Upper bounds of sums of all amounts."""
        return sum((part.run.load for part in self._parts), Load())

    def append(self, rows: KeyRows) -> None:
        """Add the latest rows."""
        self._parts += _Part.of(rows, self._plan)
        while len(self._parts) > 1 and self._joins(*self._parts[-2:]):
            newer, older = self._parts.pop(), self._parts.pop()
            self._parts += _Part.of(joined([older.rows, newer.rows]), self._plan)

    def take_before(self, moment: int) -> list[KeyRows]:
        """Remove and return the rows before a time, in pieces."""
        due_rows, remaining = [], []
        for part in self._parts:
            if part.run.first >= moment:
                remaining.append(part)
                continue
            due = part.rows.time < moment
            due_rows.append(part.rows.take(due))
            remaining += _Part.of(part.rows.take(~due), self._plan)
        self._parts = remaining
        return due_rows

    def scan(self, scan: WindowScan, keys: Hashes, latest: int) -> None:
        """Add their rows to the totals of windows.

        Args:
          scan: scan of n rows.
          keys: uint64[n], keys of the rows.
          latest: the latest time of the rows.
        """
        for part in self._parts:
            if part.run.first <= latest:
                scan.add(part.run, slots=part.slots(keys))

    def _joins(self, older: _Part, newer: _Part) -> bool:
        """Return whether two parts merge; not if the result would be divided again."""
        if len(older.rows) > _GROWTH * len(newer.rows):
            return False
        first = min(older.run.first, newer.run.first)
        last = max(int(part.rows.time.max()) for part in (older, newer))
        return len(older.keys) + len(newer.keys) <= Frame.around(first, last).capacity


def joined(parts: Sequence[KeyRows]) -> KeyRows:
    """Concatenate rows of at least one part, all with merchants or none."""
    if len(parts) == 1:
        return parts[0]
    merchants = [part.merchant for part in parts if part.merchant is not None]
    return KeyRows(
        np.concatenate([part.key for part in parts]),
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.amount for part in parts]),
        np.concatenate(merchants) if merchants else None,
    )

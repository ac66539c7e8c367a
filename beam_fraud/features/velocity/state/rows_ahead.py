"""Rows so far ahead of the clock that they have no number in the frame of the others yet."""

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

#: A part is joined with the next one unless it is more than this many times as long.
_GROWTH = 8
#: The slot of keys that a part does not have.
_NO_SLOT = -1


@dataclass(frozen=True)
class _Part:
    """Some of the rows, with slots of their own."""

    #: n rows in order of arrival.
    rows: KeyRows
    #: uint64[keys], ascending; a key's place is its slot.
    keys: Hashes
    #: The rows in order of slot and time.
    run: RowRun

    @classmethod
    def of(cls, rows: KeyRows, plan: WindowPlan) -> Iterator[_Part]:
        """Yield all rows; in several parts if many keys are over too wide a span of time."""
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
        """Slots of keys, int64[m]."""
        slots = np.minimum(self.keys.searchsorted(keys), len(self.keys) - 1)
        return np.where(self.keys[slots] == keys, slots, _NO_SLOT)


class RowsAhead:
    """Few as a rule: those of the last blocks of the clock, and those of wrong clocks.

    Args:
      plan: what is kept of a row.
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
        """What the amounts of all rows add up to at most."""
        return sum((part.run.load for part in self._parts), Load())

    def rows(self) -> list[KeyRows]:
        """Return all rows, in pieces."""
        return [part.rows for part in self._parts]

    def append(self, rows: KeyRows) -> None:
        """Take in rows that arrived last."""
        self._parts += _Part.of(rows, self._plan)
        while len(self._parts) > 1 and self._joins(*self._parts[-2:]):
            newer, older = self._parts.pop(), self._parts.pop()
            self._parts += _Part.of(joined([older.rows, newer.rows]), self._plan)

    def take_before(self, moment: int) -> list[KeyRows]:
        """Take out the rows with times before a moment, in pieces."""
        taken, left = [], []
        for part in self._parts:
            if part.run.first >= moment:
                left.append(part)
                continue
            due = part.rows.time < moment
            taken.append(part.rows.take(due))
            left += _Part.of(part.rows.take(~due), self._plan)
        self._parts = left
        return taken

    def scan(self, scan: WindowScan, keys: Hashes, latest: int) -> None:
        """Count what they hold of windows.

        Args:
          scan: of n rows.
          keys: uint64[n], the rows' keys.
          latest: the latest time of the rows.
        """
        for part in self._parts:
            if part.run.first <= latest:
                scan.add(part.run, slots=part.slots(keys))

    def _joins(self, older: _Part, newer: _Part) -> bool:
        """Return whether two parts become one; not those that would have to be divided again."""
        if len(older.rows) > _GROWTH * len(newer.rows):
            return False
        first = min(older.run.first, newer.run.first)
        last = max(int(part.rows.time.max()) for part in (older, newer))
        return len(older.keys) + len(newer.keys) <= Frame.around(first, last).capacity


def joined(parts: Sequence[KeyRows]) -> KeyRows:
    """Rows one after the other; at least one part, all with merchants or none."""
    if len(parts) == 1:
        return parts[0]
    merchants = [part.merchant for part in parts if part.merchant is not None]
    return KeyRows(
        np.concatenate([part.key for part in parts]),
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.amount for part in parts]),
        np.concatenate(merchants) if merchants else None,
    )

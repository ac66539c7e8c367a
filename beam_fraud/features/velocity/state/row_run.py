"""A run of rows sorted by key and time, with prefix sums for windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from beam_fraud.features.hashing import Hashes
from beam_fraud.features.velocity.fixed_point import Units, squares
from beam_fraud.features.velocity.large_sums import Load, prefix_tops
from beam_fraud.features.velocity.state.extremes_tree import ExtremesTree
from beam_fraud.features.velocity.state.key_times import Frame, Integers, KeyTimes, merge_order
from beam_fraud.features.velocity.state.window_plan import WindowPlan

Limbs = npt.NDArray[np.uint64]

#: Only every so many-th prefix is stored, a quarter of the memory; the squares between are
#: recomputed.
_STEP = 4


@dataclass(frozen=True)
class SquarePrefix:
    """Prefix sums of the squares of n amounts at 0, 4, 8, .., both limbs."""

    #: uint64[n // 4 + 1]
    high: Limbs
    #: uint64[n // 4 + 1]
    low: Limbs

    @classmethod
    def of(cls, amounts: Units) -> SquarePrefix:
        """Sum the squares of amounts, int64[n]."""
        nothing = np.zeros(1, dtype=np.uint64)
        high, low = (np.concatenate((nothing, limbs)) for limbs in squares(amounts))
        return cls(np.cumsum(high)[::_STEP].copy(), np.cumsum(low)[::_STEP].copy())

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.high.nbytes + self.low.nbytes

    def at(self, positions: Integers, prefix: Units) -> tuple[Limbs, Limbs]:
        """Return prefix sums of the limbs of squares at any position.

        Args:
          positions: int64[..], from 0 to n.
          prefix: int64[n + 1], prefix sums of the amounts themselves.

        Returns:
          high and low, uint64 of the shape of `positions`.
        """
        blocks = positions // _STEP
        high, low = self.high[blocks], self.low[blocks]
        first = blocks * _STEP
        for step in range(_STEP - 1):
            row = np.minimum(first + step, positions)
            # Use an amount of 0 from the position on.
            until = np.minimum(row + 1, positions)
            more_high, more_low = squares(prefix[until] - prefix[row])
            high += more_high
            low += more_low
        return high, low


_Item = TypeVar("_Item", bound=np.generic)


@dataclass(frozen=True)
class RowRun:
    """n arrived rows, sorted by slot, time and arrival."""

    #: Slots and times.
    keyed: KeyTimes
    #: A lower bound of the times, microseconds.
    first: int
    #: int64[n + 1], prefix sums of the amounts, or None if no feature needs them.
    prefix: Units | None
    #: uint64[n], or None.
    merchant: Hashes | None
    #: Of the amounts, or None.
    squares: SquarePrefix | None
    #: Of the amounts, or None.
    extremes: ExtremesTree | None
    #: Upper bounds of sums of the amounts; empty without amounts.
    load: Load

    @classmethod
    def of(
        cls,
        keyed: KeyTimes,
        first: int,
        amount: Units | None,
        merchant: Hashes | None,
        plan: WindowPlan,
    ) -> RowRun:
        """Return a run of rows that are already sorted."""
        prefix = None
        if plan.amounts:
            assert amount is not None
            prefix = np.zeros(len(amount) + 1, dtype=np.int64)
            np.cumsum(amount, out=prefix[1:])
        return cls(
            keyed,
            first,
            prefix,
            merchant if plan.merchants else None,
            SquarePrefix.of(amount) if plan.squares and amount is not None else None,
            ExtremesTree.of(amount) if plan.extremes and amount is not None else None,
            Load.of(amount) if plan.amounts and amount is not None else Load(),
        )

    def __len__(self) -> int:
        return len(self.keyed)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        parts = (self.keyed, self.prefix, self.merchant, self.squares, self.extremes)
        return sum(part.nbytes for part in parts if part is not None)

    @property
    def amount(self) -> Units | None:
        """int64[n], or None."""
        return None if self.prefix is None else np.diff(self.prefix)

    @cached_property
    def tops(self) -> Integers:
        """int64[3, n + 1], prefix sums of the upper bits of stored amounts."""
        assert self.prefix is not None
        return prefix_tops(np.diff(self.prefix))

    def since(self, origin: int, plan: WindowPlan) -> RowRun:
        """Return the rows from a time on, in a frame of equal bits that starts there."""
        numbers, selected = self.keyed.since(origin)
        if selected is None and numbers is self.keyed.numbers:
            return self
        keyed = KeyTimes(Frame(origin, self.keyed.frame.bits), numbers)
        if selected is None:
            return replace(self, keyed=keyed)
        return RowRun.of(
            keyed, self.first, _some(self.amount, selected), _some(self.merchant, selected), plan
        )

    def reframed(self, frame: Frame, plan: WindowPlan, *, ends_within: bool) -> RowRun:
        """Return the rows within another frame, encoded in it.

        Args:
          frame: the other frame.
          plan: fields that the run stores.
          ends_within: whether no row is after the frame.
        """
        if self.keyed.frame.bits == frame.bits and ends_within:
            return self.since(frame.origin, plan)
        slots, times = self.keyed.slots(), self.keyed.times(np.arange(len(self)))
        selected = (times >= frame.origin) & (times < frame.end)
        keyed = KeyTimes(frame, frame.numbers(slots[selected], times[selected]))
        return RowRun.of(
            keyed, self.first, _some(self.amount, selected), _some(self.merchant, selected), plan
        )

    def renumbered(self, slots: Integers) -> RowRun:
        """Return the rows with new slots, `slots[old]`, in the same order."""
        frame = self.keyed.frame
        times = self.keyed.numbers & ((1 << frame.bits) - 1)
        numbers = (slots[self.keyed.slots()] << frame.bits) | times
        return replace(self, keyed=KeyTimes(frame, numbers))


def merged(older: RowRun, newer: RowRun, origin: int, plan: WindowPlan) -> RowRun:
    """Merge the rows from a time on, those of `older` first on ties of slot and time.

    Args:
      older: a run.
      newer: a run whose rows arrived later, in a frame of equal bits.
      origin: the time.
      plan: fields that the runs store.
    """
    (older_numbers, older_kept), (newer_numbers, newer_kept) = (
        run.keyed.since(origin) for run in (older, newer)
    )
    order = merge_order(older_numbers, newer_numbers)
    numbers = np.concatenate((older_numbers, newer_numbers))[order]
    amount = _both(_some(older.amount, older_kept), _some(newer.amount, newer_kept), order)
    merchant = _both(_some(older.merchant, older_kept), _some(newer.merchant, newer_kept), order)
    frame = Frame(origin, older.keyed.frame.bits)
    first = max(min(older.first, newer.first), origin)
    return RowRun.of(KeyTimes(frame, numbers), first, amount, merchant, plan)


def _both(
    older: npt.NDArray[_Item] | None, newer: npt.NDArray[_Item] | None, order: Integers
) -> npt.NDArray[_Item] | None:
    return None if older is None or newer is None else np.concatenate((older, newer))[order]


def _some(
    column: npt.NDArray[_Item] | None, selected: npt.NDArray[np.bool_] | None
) -> npt.NDArray[_Item] | None:
    return column if column is None or selected is None else column[selected]

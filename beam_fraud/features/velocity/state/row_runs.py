"""All rows that a window may still reach, in runs of which each is much longer than the next."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import FraudError
from beam_fraud.features.event_clock import EventClock
from beam_fraud.features.hashing import Hashes
from beam_fraud.features.velocity.key_rows import KeyRows
from beam_fraud.features.velocity.large_sums import Load
from beam_fraud.features.velocity.state.key_times import Frame, Integers, KeyTimes
from beam_fraud.features.velocity.state.row_run import RowRun, merged
from beam_fraud.features.velocity.state.rows_ahead import RowsAhead, joined
from beam_fraud.features.velocity.state.window_plan import WindowPlan

Slots = npt.NDArray[np.int32]

_NO_KEYS = np.zeros(0, dtype=np.uint64)
_NO_SLOTS = np.zeros(0, dtype=np.int32)
#: New keys are kept apart from the many until there are this many of them, or this part.
_RECENT, _RECENT_PART = 1000, 1 / 16


class KeySlots:
    """The slot of every key met so far, in 12 bytes a key.

    Most keys lie in one sorted array; those met lately lie in a small one, which keeps an insertion
    cheap however many keys there are.

    Example:
      >>> slots = KeySlots()
      >>> slots.of(np.array([70, 30, 70], dtype=np.uint64)).tolist()
      [1, 0, 1]
      >>> slots.of(np.array([50, 30], dtype=np.uint64)).tolist()
      [2, 0]
    """

    def __init__(self) -> None:
        #: How many slots are given out.
        self.count = 0
        self._keys, self._slots = _NO_KEYS, _NO_SLOTS
        self._recent, self._recent_slots = _NO_KEYS, _NO_SLOTS

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        arrays = (self._keys, self._slots, self._recent, self._recent_slots)
        return sum(array.nbytes for array in arrays)

    def of(self, keys: Hashes) -> Integers:
        """Slots of keys; a new key gets the next free slot.

        Args:
          keys: uint64[n].

        Returns:
          int64[n].
        """
        slots, missed = _found(self._keys, self._slots, keys)
        if len(missed):
            recent, new = _found(self._recent, self._recent_slots, keys[missed])
            if len(new):
                self._add(np.unique(keys[missed[new]]))
                recent, _ = _found(self._recent, self._recent_slots, keys[missed])
            slots[missed] = recent
            if len(self._recent) > max(_RECENT, len(self._keys) * _RECENT_PART):
                self._settle()
        return slots.astype(np.int64)

    def keys(self) -> Hashes:
        """Return the key of every slot, uint64[count]."""
        self._settle()
        keys = np.empty(self.count, dtype=np.uint64)
        keys[self._slots] = self._keys
        return keys

    def keep(self, used: npt.NDArray[np.bool_]) -> Integers:
        """Forget the keys of all other slots and give out new slots, in the order of the old.

        Args:
          used: bool[count], which slots are still in use.

        Returns:
          int64[count]: new slots of the old, anything where a slot is not used.
        """
        self._settle()
        renumbered = np.cumsum(used) - 1
        kept = used[self._slots]
        self._keys = self._keys[kept]
        self._slots = renumbered[self._slots[kept]].astype(np.int32)
        self.count = len(self._keys)
        return renumbered

    def _add(self, distinct: Hashes) -> None:
        places = self._recent.searchsorted(distinct)
        slots = np.arange(self.count, self.count + len(distinct), dtype=np.int32)
        self._recent = np.insert(self._recent, places, distinct)
        self._recent_slots = np.insert(self._recent_slots, places, slots)
        self.count += len(distinct)

    def _settle(self) -> None:
        keys = np.concatenate((self._keys, self._recent))
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._slots = np.concatenate((self._slots, self._recent_slots))[order]
        self._recent, self._recent_slots = _NO_KEYS, _NO_SLOTS


def _found(known: Hashes, slots: Slots, keys: Hashes) -> tuple[Slots, Integers]:
    """Slots of the keys, anything where a key is not known, and the places of those."""
    if not len(known):
        return np.zeros(len(keys), dtype=np.int32), np.arange(len(keys))
    places = known.searchsorted(keys)
    np.minimum(places, len(known) - 1, out=places)
    return slots[places], np.flatnonzero(known[places] != keys)


#: A run is joined with the next one unless it is more than this many times as long.
_GROWTH = 8


class RowRuns:
    """Rows that have arrived, in runs; an earlier run holds earlier arrivals.

    A new run that is not much shorter than the one before is joined with it, so that a row is moved
    few times and there are few runs. When all become one, rows that no window reaches any more are
    dropped, and keys without rows.

    The bulk of the rows moves what is kept (`EventClock`). One that is ahead by more than the
    frame holds waits apart until the others have come so far: no row drops those of others.
    """

    def __init__(self, plan: WindowPlan, reach: int, clock: EventClock) -> None:
        """Hold nothing.

        Args:
          plan: what is kept of a row.
          reach: how far before the clock rows are kept, microseconds.
          clock: how far event time has got.
        """
        self.clock = clock
        self._plan, self._reach = plan, reach
        self._step = reach // 16 + 1
        self._bits = (reach + self._step).bit_length()
        self._slots = KeySlots()
        self._runs: list[RowRun] = []
        #: Rows that are later than the frame.
        self.ahead = RowsAhead(plan)

    def __iter__(self) -> Iterator[RowRun]:
        return iter(self._runs)

    def __len__(self) -> int:
        """Return how many rows are kept."""
        return sum(len(run) for run in self._runs) + len(self.ahead)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(run.nbytes for run in self._runs) + self._slots.nbytes + self.ahead.nbytes

    @property
    def load(self) -> Load:
        """What the amounts of all rows add up to at most."""
        return sum((run.load for run in self._runs), self.ahead.load)

    @property
    def origin(self) -> int:
        """From when on rows are kept; it moves in steps, for each costs a look at all rows."""
        return self._frame(self.clock.at).origin

    def fits(self, rows: KeyRows) -> bool:
        """Whether rows may come in one batch: not if their keys are many and they years apart."""
        frame = self.frame(rows)
        return frame.bits == self._bits or self._slots.count + len(rows) <= frame.capacity

    def frame(self, rows: KeyRows) -> Frame:
        """Return a frame for the numbers of a batch, n > 0 rows."""
        first, last = int(rows.time.min()), int(rows.time.max())
        frame = self._frame(self.clock.after(rows.time))
        inside = first >= frame.origin and last < frame.end
        return frame if inside else Frame.around(first, last)

    def slots(self, keys: Hashes) -> Integers:
        """Slots of the keys of a batch, int64[n].

        Raises:
          FraudError: there are too many keys.
        """
        capacity = Frame(0, self._bits).capacity
        slots = self._slots.of(keys)
        if self._slots.count > capacity:
            self.expire()
            slots = self._slots.of(keys)
        if self._slots.count > capacity:
            name = " and ".join(self._plan.specs[0].spec.key)
            raise FraudError(
                f"velocity of {name}: more than {capacity:,} keys in one state: use more shards"
            )
        return slots

    def run(self, rows: KeyRows, numbers: Integers, frame: Frame, order: Integers) -> RowRun:
        """Some rows of a batch as a run.

        Args:
          rows: the batch.
          numbers: int64[n], of all its rows.
          frame: theirs.
          order: int64[m], places of rows so that their numbers ascend.
        """
        merchant = rows.merchant[order] if rows.merchant is not None else None
        keyed = KeyTimes(frame, numbers[order])
        return RowRun.of(keyed, int(rows.time.min()), rows.amount[order], merchant, self._plan)

    def append(self, run: RowRun, rows: KeyRows, *, moves_clock: bool = True) -> bool:
        """Take in rows that arrived last.

        Args:
          run: the rows in order.
          rows: the same as they arrived.
          moves_clock: whether the clock counts them; not those that it has counted before.

        Returns:
          Whether all is one run now, and what no window reaches dropped.
        """
        before = self.origin
        if moves_clock:
            self.clock.observe(rows.time)
        frame = self._frame(self.clock.at)
        ends_within = int(rows.time.max()) < frame.end
        if not ends_within:
            self.ahead.append(rows.take(rows.time >= frame.end))
        dropped = self._insert(run.reframed(frame, self._plan, ends_within=ends_within))
        if frame.origin > before:
            for due in self.ahead.take_before(frame.end):
                dropped |= self._insert(self._run_of(due.take(due.time >= frame.origin), frame))
        return dropped

    def _run_of(self, rows: KeyRows, frame: Frame) -> RowRun:
        """Rows of the frame in order."""
        numbers = frame.numbers(self.slots(rows.key), rows.time)
        order = np.argsort(numbers, kind="stable")
        merchant = rows.merchant[order] if rows.merchant is not None else None
        keyed = KeyTimes(frame, numbers[order])
        first = int(rows.time.min(initial=frame.end))
        return RowRun.of(keyed, first, rows.amount[order], merchant, self._plan)

    def _insert(self, run: RowRun) -> bool:
        if not len(run):
            return False
        self._runs.append(run)
        joined = False
        while len(self._runs) > 1 and len(self._runs[-2]) <= _GROWTH * len(self._runs[-1]):
            self._join()
            joined = True
        if joined and len(self._runs) == 1:
            self._drop()
            return True
        return False

    def expire(self) -> None:
        """Put all rows in one run and drop what no window reaches."""
        while len(self._runs) > 1:
            self._join()
        self._drop()

    def rows(self) -> KeyRows:
        """All rows, those of a key in the order of time and arrival; amounts 0 if none are kept."""
        self.expire()
        parts = [*self._in_frame(), *self.ahead.rows()]
        if not parts:
            nothing = np.zeros(0, dtype=np.int64)
            return KeyRows(np.zeros(0, dtype=np.uint64), nothing, nothing)
        rows = joined(parts)
        return rows if len(parts) == 1 else rows.take(np.lexsort((rows.time, rows.key)))

    def _in_frame(self) -> Iterator[KeyRows]:
        for run in self._runs:
            amount = np.zeros(len(run), dtype=np.int64) if run.amount is None else run.amount
            times = run.keyed.times(np.arange(len(run)))
            yield KeyRows(self._slots.keys()[run.keyed.slots()], times, amount, run.merchant)

    def _frame(self, now: int) -> Frame:
        """Return what holds the rows while the clock stands at a moment."""
        origin = (now - self._reach + 1) // self._step * self._step
        return Frame(origin, self._bits)

    def _join(self) -> None:
        newer, older = self._runs.pop(), self._runs.pop()
        self._runs.append(merged(older, newer, self.origin, self._plan))

    def _drop(self) -> None:
        """Drop from the only run what no window reaches, then keys without rows."""
        since = (run.since(self.origin, self._plan) for run in self._runs)
        self._runs = [run for run in since if len(run)]
        used = np.zeros(self._slots.count, dtype=bool)
        for run in self._runs:
            used[run.keyed.slots()] = True
        if not used.all():
            renumbered = self._slots.keep(used)
            self._runs = [run.renumbered(renumbered) for run in self._runs]

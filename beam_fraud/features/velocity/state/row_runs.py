"""All rows that windows may still reach, in runs, each much longer than the next."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from threading import Thread

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.event_clock import EventClock
from beam_fraud.features.hashing import Hashes
from beam_fraud.features.velocity.key_rows import KeyRows
from beam_fraud.features.velocity.large_sums import Load
from beam_fraud.features.velocity.state.key_times import Frame, Integers, KeyTimes, position_of
from beam_fraud.features.velocity.state.row_run import RowRun, merged
from beam_fraud.features.velocity.state.rows_ahead import RowsAhead
from beam_fraud.features.velocity.state.window_plan import WindowPlan

Slots = npt.NDArray[np.int32]

_NO_KEYS = np.zeros(0, dtype=np.uint64)
_NO_SLOTS = np.zeros(0, dtype=np.int32)
#: New keys stay in a separate array up to this number, or this share.
_RECENT, _RECENT_PART = 1000, 1 / 16


class KeySlots:
    """Consecutive small numbers (slots) of all keys so far, in 12 bytes per key.

    Most keys are in one sorted array, recent ones in a small one, so that an insertion is cheap
    whatever the number of keys.

    Example:
      >>> slots = KeySlots()
      >>> slots.of(np.array([70, 30, 70], dtype=np.uint64)).tolist()
      [1, 0, 1]
      >>> slots.of(np.array([50, 30], dtype=np.uint64)).tolist()
      [2, 0]
    """

    def __init__(self) -> None:
        #: Number of assigned slots.
        self.count = 0
        self._keys, self._slots = _NO_KEYS, _NO_SLOTS
        self._recent, self._recent_slots = _NO_KEYS, _NO_SLOTS

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        arrays = (self._keys, self._slots, self._recent, self._recent_slots)
        return sum(array.nbytes for array in arrays)

    def of(self, keys: Hashes) -> Integers:
        """Return the slots of keys; a new key gets the next free slot.

        Args:
          keys: uint64[n].

        Returns:
          int64[n].
        """
        slots, missed = _positions_of(self._keys, self._slots, keys)
        if len(missed):
            recent, new = _positions_of(self._recent, self._recent_slots, keys[missed])
            if len(new):
                self._add(np.unique(keys[missed[new]]))
                recent, _ = _positions_of(self._recent, self._recent_slots, keys[missed])
            slots[missed] = recent
            if len(self._recent) > max(_RECENT, len(self._keys) * _RECENT_PART):
                self._settle()
        return slots.astype(np.int64)

    def known(self, keys: Hashes) -> Integers:
        """Return the slots of keys (uint64[n]), -1 for those without one; int64[n]."""
        slots, missed = _positions_of(self._keys, self._slots, keys)
        if len(missed):
            slots[missed] = -1
            if len(self._recent):
                recent, new = _positions_of(self._recent, self._recent_slots, keys[missed])
                recent[new] = -1
                slots[missed] = recent
        return slots.astype(np.int64)

    def find(self, key: int) -> int | None:
        """Return the slot of a key, or None."""
        for keys, slots in ((self._keys, self._slots), (self._recent, self._recent_slots)):
            place = position_of(keys, key)
            if place is not None:
                return slots.item(place)
        return None

    def keys(self) -> Hashes:
        """Return the key of every slot, uint64[count]."""
        self._settle()
        keys = np.empty(self.count, dtype=np.uint64)
        keys[self._slots] = self._keys
        return keys

    def keep(self, used: npt.NDArray[np.bool_]) -> Integers:
        """Drop the keys of all other slots, and renumber the rest in order.

        Args:
          used: bool[count], slots still in use.

        Returns:
          int64[count]: new slot of each old one; undefined for unused slots.
        """
        self._settle()
        renumbered = np.cumsum(used) - 1
        selected = used[self._slots]
        self._keys = self._keys[selected]
        self._slots = renumbered[self._slots[selected]].astype(np.int32)
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


def _positions_of(known: Hashes, slots: Slots, keys: Hashes) -> tuple[Slots, Integers]:
    """Return the slots of the keys, undefined for unknown ones, and their positions."""
    if not len(known):
        return np.zeros(len(keys), dtype=np.int32), np.arange(len(keys))
    places = known.searchsorted(keys)
    np.minimum(places, len(known) - 1, out=places)
    return slots[places], np.flatnonzero(known[places] != keys)


#: Join a run with the next one unless it is more than this many times as long.
_GROWTH = 8
#: Number of rows from which a thread joins two runs: a second of work for some millions.
_MANY = 1 << 17


class _Join:
    """Two neighbouring runs that a thread joins, while others read them.

    Args:
      older: a run.
      newer: the next one.
      origin: time from which rows are kept, microseconds.
      plan: fields that the runs store.
    """

    def __init__(self, older: RowRun, newer: RowRun, origin: int, plan: WindowPlan) -> None:
        self._pair = older, newer
        self._joined = Future[RowRun]()
        # Not a pool, whose threads a process that forks would lose.
        Thread(target=self._run, args=(origin, plan), daemon=True, name="join-rows").start()

    def __len__(self) -> int:
        """Return the number of rows of both."""
        return sum(map(len, self._pair))

    def has(self, run: RowRun) -> bool:
        """Return whether a run belongs to the pair."""
        return any(run is one for one in self._pair)

    @property
    def done(self) -> bool:
        """Return whether the joined run is ready."""
        return self._joined.done()

    def joined(self) -> RowRun:
        """Wait for the run of both.

        Raises:
          MemoryError: there was not enough memory.
        """
        return self._joined.result()

    def _run(self, origin: int, plan: WindowPlan) -> None:
        try:
            self._joined.set_result(merged(*self._pair, origin, plan))
        except BaseException as error:
            self._joined.set_exception(error)


class RowRuns:
    """Arrived rows in runs; an earlier run holds earlier arrivals.

    A new run that is not much shorter than the previous one is merged with it, so that rows move
    rarely and runs stay few. A thread merges long runs, so that no row waits for it. A merge drops
    rows that no window reaches; a new first run drops keys without rows, unless a thread merges.

    The bulk of the rows moves the limit of expiry (`EventClock`). A row that is further ahead than
    the frame allows waits separately until the others catch up: no row expires those of others.
    """

    def __init__(self, plan: WindowPlan, reach: int, clock: EventClock) -> None:
        """Start empty.

        Args:
          plan: fields to store of a row.
          reach: microseconds before the clock for which rows are kept.
          clock: the event clock.
        """
        self.clock = clock
        self._plan, self._reach = plan, reach
        self._step = reach // 16 + 1
        self._bits = (reach + self._step).bit_length()
        #: The last result of `_frame`, after its argument.
        self._framed = 0, Frame((1 - reach) // self._step * self._step, self._bits)
        self._slots = KeySlots()
        self._runs: list[RowRun] = []
        #: Of two of the runs.
        self._join: _Join | None = None
        #: Load of the runs; None after a change of them.
        self._load: Load | None = None
        #: Rows after the frame.
        self.ahead = RowsAhead(plan)

    def __iter__(self) -> Iterator[RowRun]:
        return iter(self._runs)

    def __len__(self) -> int:
        """Return the number of stored rows."""
        return sum(len(run) for run in self._runs) + len(self.ahead)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(run.nbytes for run in self._runs) + self._slots.nbytes + self.ahead.nbytes

    @property
    def load(self) -> Load:
        """Upper bounds of sums of all amounts."""
        return self._loads() + self.ahead.load

    def _loads(self) -> Load:
        """Return the load of the runs."""
        if self._load is None:
            self._load = sum((run.load for run in self._runs), Load())
        return self._load

    @property
    def origin(self) -> int:
        """Time from which rows are kept; moves in steps, as each costs a pass over all rows."""
        return self._frame(self.clock.at).origin

    def fits(self, rows: KeyRows) -> bool:
        """Return whether rows fit one batch: not if many keys are years apart."""
        frame = self.frame(rows)
        return frame.bits == self._bits or self._slots.count + len(rows) <= frame.capacity

    def frame(self, rows: KeyRows) -> Frame:
        """Return a frame to encode a batch of n > 0 rows."""
        first, last = int(rows.time.min()), int(rows.time.max())
        frame = self._frame(self.clock.after(rows.time))
        inside = first >= frame.origin and last < frame.end
        return frame if inside else Frame.around(first, last)

    def takes(self, time: int, load: Load) -> bool:
        """Return whether a row needs none of what batches may: no other frame by the step of the
        clock, no late row, none ahead, no large sums.

        Args:
          time: its event time.
          load: load of the row, and of those before it that are in no run yet.
        """
        frame = self._frame(self.clock.at)
        return (
            frame.origin <= time < frame.end
            and (self.clock.stands(1) or self._keeps(frame, np.array([time])))
            and not len(self.ahead)
            and (self._loads() + load).fits
        )

    def takes_all(self, times: Integers, load: Load) -> bool:
        """Return the same for n > 0 rows in order of arrival.

        Args:
          times: int64[n], their event times.
          load: their load, with that of those before them that are in no run yet.
        """
        frame = self._frame(self.clock.at)
        return (
            frame.origin <= int(times.min())
            and int(times.max()) < frame.end
            and (self.clock.stands(len(times)) or self._keeps(frame, times))
            and not len(self.ahead)
            and (self._loads() + load).fits
        )

    def _keeps(self, frame: Frame, times: Integers) -> bool:
        """Return whether the frame stays the same after some rows."""
        return self._frame(self.clock.after(times)).origin == frame.origin

    def known_slots(self, keys: Hashes) -> Integers:
        """Return the slots of keys (uint64[n]), -1 for those without rows; int64[n]."""
        return self._slots.known(keys)

    def slot(self, key: int) -> int | None:
        """Return the slot of a key, or None if it has no rows."""
        return self._slots.find(key)

    def slots(self, keys: Hashes) -> Integers:
        """Return the slots of a batch's keys, int64[n].

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
                f"velocity of {name}: more than {capacity:,} keys in one state: use more shards",
                Code.VELOCITY_LIMIT,
            )
        return slots

    def run(self, rows: KeyRows, numbers: Integers, frame: Frame, order: Integers) -> RowRun:
        """Return some rows of a batch as a run.

        Args:
          rows: the batch.
          numbers: int64[n], encoded rows.
          frame: frame of the numbers.
          order: int64[m], positions of rows by ascending number.
        """
        merchant = rows.merchant[order] if rows.merchant is not None else None
        keyed = KeyTimes(frame, numbers[order])
        return RowRun.of(keyed, int(rows.time.min()), rows.amount[order], merchant, self._plan)

    def append(self, run: RowRun, rows: KeyRows) -> bool:
        """Add the latest rows.

        Args:
          run: the rows, sorted.
          rows: the rows in order of arrival.

        Returns:
          Whether expired rows were dropped.
        """
        before = self.origin
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

    def append_observed(self, rows: KeyRows) -> bool:
        """Add the latest rows, which the clock has observed and the frame takes (`takes`).

        Returns:
          What `append` does.
        """
        return self._insert(self._run_of(rows, self._frame(self.clock.at)))

    def _run_of(self, rows: KeyRows, frame: Frame) -> RowRun:
        """Return the rows of the frame as a sorted run."""
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
        self._load = None
        done = self._join is not None and self._join.done
        # With many rows in a short time, memory would grow while a thread joins.
        hurried = self._join is not None and not done and self._grown_since(self._join)
        renewed = (done or hurried) and self._take_joined()
        if renewed:
            self._forget_keys()
        if self._join_neighbours(beside=not hurried):
            self._forget_keys()
            renewed = True
        return renewed

    def _join_neighbours(self, *, beside: bool) -> bool:
        """Join a run with the next one where it is not much longer, the last ones first.

        Args:
          beside: whether a thread joins long ones.

        Returns:
          Whether the first run is a new one.
        """
        renewed = False
        newer = len(self._runs) - 1
        while newer > 0:
            first, second = self._runs[newer - 1], self._runs[newer]
            if len(first) > _GROWTH * len(second) or self._joins(first) or self._joins(second):
                newer -= 1
            elif beside and len(first) + len(second) >= _MANY:
                if self._join is None:
                    self._join = _Join(first, second, self.origin, self._plan)
                newer -= 1
            else:
                joined = merged(first, second, self.origin, self._plan)
                self._runs[newer - 1 : newer + 1] = [joined]
                renewed |= newer == 1
                newer = min(newer, len(self._runs) - 1)
        return renewed

    def _grown_since(self, join: _Join) -> bool:
        """Return whether many rows came since a thread began to join two runs."""
        after = self._runs[self._place(join) + 2 :]
        return sum(map(len, after)) * _GROWTH > len(join)

    def _place(self, join: _Join) -> int:
        return next(place for place, run in enumerate(self._runs) if join.has(run))

    def _joins(self, run: RowRun) -> bool:
        return self._join is not None and self._join.has(run)

    def _take_joined(self) -> bool:
        """Replace two runs by the one that a thread makes of them; wait for it.

        Returns:
          Whether the first run is a new one.
        """
        if self._join is None:
            return False
        join, self._join = self._join, None
        first = self._place(join)
        self._runs[first : first + 2] = [join.joined()]
        self._load = None
        return first == 0

    def expire(self) -> None:
        """Merge all runs and drop rows that no window reaches."""
        self._take_joined()
        self._load = None
        while len(self._runs) > 1:
            newer, older = self._runs.pop(), self._runs.pop()
            self._runs.append(merged(older, newer, self.origin, self._plan))
        self._runs = [run.since(self.origin, self._plan) for run in self._runs]
        self._forget_keys()

    def _frame(self, now: int) -> Frame:
        """Return the frame of the rows for a time of the clock."""
        if self._framed[0] != now:
            origin = (now - self._reach + 1) // self._step * self._step
            self._framed = now, Frame(origin, self._bits)
        return self._framed[1]

    def _forget_keys(self) -> None:
        """Drop keys without rows, unless a thread reads their numbers."""
        if self._join is not None:
            return
        self._runs = [run for run in self._runs if len(run)]
        used = np.zeros(self._slots.count, dtype=bool)
        for run in self._runs:
            used[run.keyed.slots()] = True
        if not used.all():
            renumbered = self._slots.keep(used)
            self._runs = [run.renumbered(renumbered) for run in self._runs]

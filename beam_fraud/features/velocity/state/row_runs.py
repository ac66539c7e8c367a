"""All rows that windows may still reach, in runs, each much longer than the next."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.event_clock import EventClock
from beam_fraud.features.hashing import Hashes
from beam_fraud.features.velocity.key_rows import KeyRows
from beam_fraud.features.velocity.large_sums import Load
from beam_fraud.features.velocity.state.key_times import Frame, Integers, KeyTimes
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
        wanted = np.uint64(key)
        for keys, slots in ((self._keys, self._slots), (self._recent, self._recent_slots)):
            place = int(keys.searchsorted(wanted))
            if place < len(keys) and keys[place] == wanted:
                return int(slots[place])
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


class RowRuns:
    """Arrived rows in runs; an earlier run holds earlier arrivals.

    A new run that is not much shorter than the previous one is merged with it, so that rows move
    rarely and runs stay few. When all merge to one, rows that no window reaches are dropped, and
    keys without rows.

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
          Whether all rows are now one run, without expired ones.
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
        joined = False
        while len(self._runs) > 1 and len(self._runs[-2]) <= _GROWTH * len(self._runs[-1]):
            self._join()
            joined = True
        if joined and len(self._runs) == 1:
            self._drop()
            return True
        return False

    def expire(self) -> None:
        """Merge all runs and drop rows that no window reaches."""
        while len(self._runs) > 1:
            self._join()
        self._drop()

    def _frame(self, now: int) -> Frame:
        """Return the frame of the rows for a time of the clock."""
        if self._framed[0] != now:
            origin = (now - self._reach + 1) // self._step * self._step
            self._framed = now, Frame(origin, self._bits)
        return self._framed[1]

    def _join(self) -> None:
        self._load = None
        newer, older = self._runs.pop(), self._runs.pop()
        self._runs.append(merged(older, newer, self.origin, self._plan))

    def _drop(self) -> None:
        """Drop rows of the only run that no window reaches, then keys without rows."""
        self._load = None
        since = (run.since(self.origin, self._plan) for run in self._runs)
        self._runs = [run for run in since if len(run)]
        used = np.zeros(self._slots.count, dtype=bool)
        for run in self._runs:
            used[run.keyed.slots()] = True
        if not used.all():
            renumbered = self._slots.keep(used)
            self._runs = [run.renumbered(renumbered) for run in self._runs]

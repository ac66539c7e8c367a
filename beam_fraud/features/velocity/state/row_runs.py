"""All rows that a window may still reach, in runs of which each is much longer than the next."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from beam_fraud.errors import FraudError
from beam_fraud.features.hashing import Hashes
from beam_fraud.features.velocity.key_rows import KeyRows
from beam_fraud.features.velocity.large_sums import Load
from beam_fraud.features.velocity.state.key_slots import KeySlots
from beam_fraud.features.velocity.state.key_times import Frame, Integers, KeyTimes
from beam_fraud.features.velocity.state.row_run import RowRun, merged
from beam_fraud.features.velocity.state.window_plan import WindowPlan

#: A run is joined with the next one unless it is more than this many times as long.
_GROWTH = 8
#: Earlier than any event: the newest time before the first row.
_NEVER = -(1 << 62)


class RowRuns:
    """Rows that have arrived, in runs; an earlier run holds earlier arrivals.

    A new run that is not much shorter than the one before is joined with it, so that a row is moved
    few times and there are few runs. When all become one, rows that no window reaches any more are
    dropped, and keys without rows.
    """

    def __init__(self, plan: WindowPlan, reach: int) -> None:
        """Hold nothing.

        Args:
          plan: what is kept of a row.
          reach: how far before the newest time rows are kept, microseconds.
        """
        #: The newest time seen, microseconds.
        self.newest = _NEVER
        self._plan, self._reach = plan, reach
        self._step = reach // 16 + 1
        self._bits = (reach + self._step).bit_length()
        self._slots = KeySlots()
        self._runs: list[RowRun] = []

    def __iter__(self) -> Iterator[RowRun]:
        return iter(self._runs)

    def __len__(self) -> int:
        """How many rows are kept."""
        return sum(len(run) for run in self._runs)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(run.nbytes for run in self._runs) + self._slots.nbytes

    @property
    def load(self) -> Load:
        """What the amounts of all rows add up to at most."""
        return sum((run.load for run in self._runs), Load())

    @property
    def origin(self) -> int:
        """From when on rows are kept; it moves in steps, for each costs a look at all rows."""
        return self._origin(self.newest)

    def fits(self, rows: KeyRows) -> bool:
        """Whether rows may come in one batch: not if their keys are many and they years apart."""
        frame = self.frame(rows)
        return frame.bits == self._bits or self._slots.count + len(rows) <= frame.capacity

    def frame(self, rows: KeyRows) -> Frame:
        """A frame for the numbers of a batch, n > 0 rows."""
        first, last = int(rows.time.min()), int(rows.time.max())
        origin = self._origin(max(last, self.newest))
        return Frame(origin, self._bits) if first >= origin else Frame.around(first, last)

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

    def append(self, run: RowRun, newest: int) -> bool:
        """Take in rows that arrived last.

        Args:
          run: the rows.
          newest: the latest of their times.

        Returns:
          Whether all is one run now, and what no window reaches dropped.
        """
        self.newest = max(self.newest, newest)
        run = run.reframed(Frame(self.origin, self._bits), self._plan)
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
        if not self._runs:
            nothing = np.zeros(0, dtype=np.int64)
            return KeyRows(np.zeros(0, dtype=np.uint64), nothing, nothing)
        run = self._runs[0]
        amount = np.zeros(len(run), dtype=np.int64) if run.amount is None else run.amount
        times = run.keyed.times(np.arange(len(run)))
        return KeyRows(self._slots.keys()[run.keyed.slots()], times, amount, run.merchant)

    def _origin(self, newest: int) -> int:
        return (newest - self._reach + 1) // self._step * self._step

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

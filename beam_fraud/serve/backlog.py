"""Rows that wait for a database, a topic or an outbox, and the thread that delivers them."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import pyarrow as pa

from beam_fraud.errors import FraudError
from beam_fraud.monitoring.waiting import Wait
from beam_fraud.state.shard import rows_from_bytes, rows_to_bytes
from beam_fraud.storage.checkpoint import FOREVER
from beam_fraud.storage.journal import JournaledCheckpoint

_LOG = logging.getLogger(__name__)
#: Rows in memory; those of further segments are read back from the checkpoint.
_ROWS_IN_MEMORY = 50_000
#: Rows per delivery.
_ROWS_AT_A_TIME = 10_000
#: Seconds between two attempts while the place is down: the first and the longest pause.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0

#: Type: delivers rows; idempotent. Raises FraudError if the place does not take them.
Deliver = Callable[[pa.RecordBatch], None]


class _Segment:
    """Rows that were added between two folds of the journal."""

    def __init__(self, rows: int = 0, *, saved: bool) -> None:
        #: None if they are in the checkpoint alone.
        self.batches: list[pa.RecordBatch] | None = []
        self.rows = rows
        #: Whether the checkpoint has them, or takes them with the next commit.
        self.saved = saved
        #: Number of batches that were delivered.
        self.delivered = 0


class Backlog:
    """Rows to deliver to a place, in order, without delay for those who add them.

    The rows of a backlog either can be found elsewhere in the state until a fold of the journal
    (`add`), and become a segment of the checkpoint with it; or a segment has them with the commit
    that they are part of (`take`). A delivered segment is removed with a later commit. So a row is
    delivered at least once, and memory is bounded while the place is down.

    Args:
      name: step of the state.
      checkpoint: the state.
      deliver: delivers rows, in the backlog's own thread.
    """

    def __init__(self, name: str, checkpoint: JournaledCheckpoint, deliver: Deliver) -> None:
        self._name = name
        self._checkpoint = checkpoint
        self._deliver = deliver
        self._lock = threading.Condition()
        #: Number to segment, the oldest first.
        self._segments: OrderedDict[int, _Segment] = OrderedDict()
        self._next = 0
        #: The last segment, while rows are added to it.
        self._open: int | None = None
        #: Rows that the next commit has, and their segments.
        self._taken: list[tuple[int, pa.RecordBatch]] = []
        #: Segments that are delivered; and those that the next commit has, or has no more.
        self._delivered: list[int] = []
        self._written: list[int] = []
        self._removed: list[int] = []
        self._stopping = False
        self._wait = Wait(_LOG)
        #: Rows that wait.
        self.rows = 0
        for number in checkpoint.shards(name):
            segment = _Segment(sum(len(batch) for batch in self._stored(number)), saved=True)
            segment.batches = None
            self._segments[number] = segment
            self._next = number + 1
            self.rows += segment.rows
        self._thread = threading.Thread(target=self._run, name=f"{name} backlog", daemon=True)

    def start(self) -> None:
        """Start to deliver."""
        self._thread.start()

    def add(self, rows: pa.RecordBatch) -> None:
        """Add committed rows."""
        if len(rows):
            with self._lock:
                self._append(self._opened(), rows, saved=False)

    def take(self, rows: pa.RecordBatch) -> None:
        """Add rows to the next commit, and deliver them once they are `committed`."""
        if len(rows):
            with self._lock:
                number = self._opened()
                self._checkpoint.keep(self._name, number, [(rows_to_bytes(rows), FOREVER)])
                self._taken.append((number, rows))

    def tidy(self) -> None:
        """Remove delivered segments with the next commit, and begin another one."""
        with self._lock:
            for number in self._delivered:
                self._checkpoint.keep(self._name, number, [], replaces=True)
            self._removed += self._delivered
            self._delivered, self._open = [], None

    def fold(self) -> None:
        """Do that, and write what was added to the checkpoint; before a fold."""
        self.tidy()
        with self._lock:
            for number, segment in self._segments.items():
                if segment.saved:
                    continue
                left = (segment.batches or [])[segment.delivered :]
                self._checkpoint.keep(
                    self._name, number, [(rows_to_bytes(batch), FOREVER) for batch in _joined(left)]
                )
                segment.saved = True
                self._written.append(number)

    def committed(self) -> None:
        """Note a commit."""
        if not (self._taken or self._written or self._removed):
            return
        with self._lock:
            for number, rows in self._taken:
                self._append(number, rows, saved=True)
            self._taken, self._written, self._removed = [], [], []
            in_memory = sum(s.rows for s in self._segments.values() if s.batches is not None)
            for number, segment in reversed(self._segments.items()):
                if in_memory <= _ROWS_IN_MEMORY:
                    break
                closed = segment.saved and number != self._open
                if closed and segment.batches is not None and not segment.delivered:
                    segment.batches = None
                    in_memory -= segment.rows

    def discarded(self) -> None:
        """Note that the changes since the last commit are lost."""
        with self._lock:
            for number in self._written:
                if number in self._segments:
                    self._segments[number].saved = False
            self._delivered = [*self._removed, *self._delivered]
            self._taken, self._written, self._removed = [], [], []

    def _opened(self) -> int:
        if self._open is None:
            self._open, self._next = self._next, self._next + 1
        return self._open

    def _append(self, number: int, rows: pa.RecordBatch, *, saved: bool) -> None:
        segment = self._segments.get(number)
        if segment is None:
            segment = self._segments[number] = _Segment(saved=saved)
        assert segment.batches is not None
        segment.batches.append(rows)
        segment.rows += len(rows)
        self.rows += len(rows)
        self._lock.notify()

    def stop(self, seconds: float) -> int:
        """Stop after the delivery of all rows, or after so many seconds; return rows that wait."""
        with self._lock:
            self._stopping = True
            self._lock.notify()
        if self._thread.is_alive():
            self._thread.join(seconds)
        return self.rows

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            with self._lock:
                while not self.rows:
                    if self._stopping:
                        return
                    self._lock.wait()
                number, segment = next(iter(self._segments.items()))
                batches, done = segment.batches, segment.delivered
            if batches is None:
                batches = self._stored(number)
                with self._lock:
                    segment.batches = batches
            rows, count = _first(batches[done:])
            if count:
                try:
                    self._deliver(rows)
                except FraudError as error:
                    self._wait.goes_on(f"{error}; {self.rows:,} rows wait")
                    with self._lock:
                        if self._stopping:
                            return
                        self._lock.wait(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
                self._wait.over(f"{self._name}: what waited is delivered")
                pause = _FIRST_PAUSE
            self._note_delivered(number, segment, count, len(rows) if count else 0)

    def _note_delivered(self, number: int, segment: _Segment, batches: int, rows: int) -> None:
        with self._lock:
            segment.delivered += batches
            self.rows -= rows
            if segment.delivered < len(segment.batches or ()):
                return
            if any(number == taken for taken, _ in self._taken):
                # More of it comes with the next commit.
                return
            del self._segments[number]
            if segment.saved:
                self._delivered.append(number)
            if number == self._open:
                self._open = None

    def _stored(self, number: int) -> list[pa.RecordBatch]:
        return [rows_from_bytes(data) for data in self._checkpoint.stored(self._name, number)]


def _joined(batches: Sequence[pa.RecordBatch]) -> list[pa.RecordBatch]:
    return [] if not batches else [pa.concat_batches(batches)]


def _first(batches: Sequence[pa.RecordBatch]) -> tuple[pa.RecordBatch, int]:
    """Return the rows of the first batches as one, and the number of these batches."""
    chosen: list[pa.RecordBatch] = []
    for batch in batches:
        if chosen and sum(map(len, chosen)) + len(batch) > _ROWS_AT_A_TIME:
            break
        chosen.append(batch)
    return (pa.concat_batches(chosen) if chosen else pa.record_batch({})), len(chosen)

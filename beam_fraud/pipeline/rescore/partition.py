"""A partition on its way from rows to files."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import msgspec
import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.pipeline.rescore.lanes import Lane
from beam_fraud.pipeline.rescore.manifest import PartitionRecord
from beam_fraud.pipeline.rescore.plan import Task
from beam_fraud.pipeline.rescore.scoring import PartitionWriter, Scorers, Tally
from beam_fraud.records.dead_share import DeadShare
from beam_fraud.schema.event_time import moment_of
from beam_fraud.storage.rescore_outputs import RescoreOutputs
from beam_fraud.wording import reason_of

_LOG = logging.getLogger(__name__)
_COUNTED = frozenset(PartitionRecord.__struct_fields__)


class Progress:
    """Partitions and rows done, for the terminal."""

    def __init__(self, partitions: int, size: int) -> None:
        self._begun = time.monotonic()
        self._all, self._size = partitions, max(size, 1)
        self._lock = threading.Lock()
        self.partitions = self.rows = self.bytes = 0

    def read(self, size: int) -> None:
        with self._lock:
            self.bytes += size

    def scored(self, rows: int) -> None:
        with self._lock:
            self.rows += rows

    def done(self) -> None:
        with self._lock:
            self.partitions += 1

    def share(self) -> float:
        return min(self.bytes / self._size, 1.0)

    def text(self) -> str:
        seconds, share = time.monotonic() - self._begun, self.share()
        text = f"{self.partitions:,} of {self._all:,} partitions, {self.rows:,} rows"
        if seconds and share:
            left = round(seconds * (1 - share) / share)
            text += f", {self.rows / seconds:,.0f} rows/s, {left:,} s to go"
        return text


@dataclass(frozen=True)
class Desk:
    """The outputs, scorers and bounds that all partitions of a run share."""

    outputs: RescoreOutputs
    scorers: Scorers
    progress: Progress
    #: Maximum share of dead letters of a partition; None for any.
    max_dead: float | None
    #: Called with the record of each partition, in any thread.
    done: Callable[[PartitionRecord], None]


class Partition:
    """A partition while its rows come and are scored."""

    def __init__(self, task: Task, desk: Desk) -> None:
        self._desk = desk
        self.task = task
        self.lane = Lane()
        self._writer = PartitionWriter(desk.outputs, task.name, desk.scorers)
        self._failure: FraudError | None = None
        self._unread = False

    @property
    def tally(self) -> Tally:
        """Rows by outcome."""
        return self._writer.tally

    def score(self, transactions: pa.RecordBatch) -> None:
        """Score rows and write them."""
        self._attempt(partial(self._writer.score, transactions))
        self._desk.progress.scored(len(transactions))

    def dead(self, dead_letters: pa.RecordBatch) -> None:
        """Write dead letters."""
        self._attempt(partial(self._writer.dead, dead_letters))

    def fail(self, error: FraudError, *, unread: bool = False) -> None:
        """Give the partition up.

        Args:
          error: why.
          unread: whether its rows are unknown to others as well.
        """
        if self._failure is None:
            self._failure, self._unread = error, unread
            self._writer.give_up()

    def give_up(self) -> None:
        """Write nothing more."""
        self._writer.give_up()

    def finish(self, without: tuple[str, ...]) -> None:
        """Publish the partition, or record its failure."""
        self._attempt(self._writer.close)
        self._attempt(self._check)
        record = self._record(without)
        if self._failure is None:
            self._attempt(partial(self._desk.outputs.publish, self.task.name, record.to_bytes()))
        if self._failure is not None:
            record = self.task.failed(self._failure, unread=self._unread)
            _LOG.error("partition %s: %s", self.task.name, self._failure)
        self._desk.done(record)

    def _check(self) -> None:
        """Refuse a partition that changed while it was read, or has too many dead letters."""
        self.task.refuse_if_changed()
        tally, most = self._writer.tally, self._desk.max_dead
        share = DeadShare(tally.rows["rows_in"], tally.dead_reasons)
        if most is not None and (refusal := share.refusal(most)) is not None:
            raise FraudError(f"{self.task.name}: {refusal}", Code.ROWS_INVALID)

    def _attempt(self, work: Callable[[], object]) -> None:
        if self._failure is not None:
            return
        try:
            work()
        except FraudError as error:
            if error.code == Code.OUTPUT_IN_USE:
                # Nothing of this run can be published any more.
                raise
            self.fail(error)
        except (OSError, pa.ArrowException) as error:
            known = error if isinstance(error, OSError) else OSError(reason_of(error))
            self.fail(self._desk.outputs.failure(known))

    def _record(self, without: tuple[str, ...]) -> PartitionRecord:
        tally = self._writer.tally
        return msgspec.structs.replace(
            self.task.record(without),
            outputs=self._desk.outputs.files(self.task.name),
            **{name: rows for name, rows in tally.rows.items() if name in _COUNTED},
            dead_reasons=dict(sorted(tally.dead_reasons.items())),
            doubts={doubt: rows for doubt, rows in tally.doubts.items() if rows},
            first_event=None if tally.first is None else moment_of(tally.first),
            last_event=None if tally.last is None else moment_of(tally.last),
            side_seconds={name: round(s, 6) for name, s in sorted(tally.side_seconds.items())},
            scored_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

"""Rescore an archive: score what is missing or changed, partition by partition."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_fraud.errors import Code, FraudError
from beam_fraud.monitoring.activity import doing
from beam_fraud.pipeline.rescore.cut import CutRows, cut_rows
from beam_fraud.pipeline.rescore.lanes import Lane, Lanes
from beam_fraud.pipeline.rescore.manifest import PartitionRecord
from beam_fraud.pipeline.rescore.partition import Desk, Partition, Progress
from beam_fraud.pipeline.rescore.plan import Plan, Task, first_of
from beam_fraud.pipeline.rescore.scoring import Scorers
from beam_fraud.pipeline.rescore.walk import PARTITION, TimeOrder, Windows, by_partition
from beam_fraud.records.duplicates import SeenIds
from beam_fraud.records.read import ReadBlock, read_transactions
from beam_fraud.schema.event_time import event_micros
from beam_fraud.sources.filesystem import open_file
from beam_fraud.sources.raw import POSITION
from beam_fraud.storage.rescore_outputs import RescoreOutputs

_LOG = logging.getLogger(__name__)


class LateRowsError(Exception):
    """A partition has rows over a day outside of the times that its directory says."""


@dataclass
class Settings:
    """How a run works; none of it changes a row but the first three."""

    #: Maximum of reasons per flagged row.
    reasons: int = 5
    #: Whether an id must be unique over all partitions, or within each file.
    dedupe_across: bool = False
    #: Whether rows keep the inputs of their decisions.
    keep_features: bool = False
    #: Maximum share of dead letters of a partition; None for any.
    max_dead: float | None = None
    #: Rows of a block.
    block_rows: int = 50_000
    #: Threads that score.
    workers: int = 1


@dataclass
class Run:
    """A run over the tasks of a plan."""

    plan: Plan
    outputs: RescoreOutputs
    settings: Settings
    scorers: Scorers
    progress: Progress = field(init=False)
    #: Called after each partition, with the records of all so far.
    on_done: Callable[[Mapping[str, PartitionRecord]], None] = lambda records: None
    #: Records of the partitions of this run, by name.
    records: dict[str, PartitionRecord] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        read = [task for task in self.plan.tasks if task.needed]
        size = sum(task.size for task in read)
        self.progress = Progress(sum(task.pending for task in read), size)
        self._desk = Desk(
            self.outputs, self.scorers, self.progress, self.settings.max_dead, self._done
        )

    def partition(self, task: Task) -> Partition:
        """Begin a partition."""
        return Partition(task, self._desk)

    def _done(self, record: PartitionRecord) -> None:
        """Record the outcome of a partition."""
        with self._lock:
            self.records[record.name] = record
            so_far = dict(self.records)
        self.progress.done()
        self.on_done(so_far)

    def __call__(self) -> dict[str, PartitionRecord]:
        """Score all pending partitions; return their records by name.

        Raises:
          FraudError: a history cannot be read, or windows cannot be computed.
        """
        if not any(task.pending for task in self.plan.tasks):
            return {}
        with doing("rescoring", self.progress.text, self.progress.share):
            cut = self._cut()
            if not self.plan.in_order:
                self._independently(cut)
                return self.records
            try:
                self._in_order(cut)
            except LateRowsError:
                _LOG.warning(
                    "some partitions have rows that are over a day outside of their directories' "
                    "times: reading the times of all first"
                )
                self.plan.read_bounds()
                self.progress.rows = self.progress.bytes = self.progress.partitions = 0
                self._in_order(cut)
        return self.records

    def _cut(self) -> CutRows | None:
        """Read files that several partitions share."""
        tasks = [task for task in self.plan.tasks if task.needed and task.partition.cut]
        if not tasks:
            return None
        try:
            return cut_rows(
                [task.partition for task in self.plan.tasks],
                self.plan.sides.schema,
                labels=self.plan.sides.labels,
                cut=self.plan.scope.cut,
                path=self.outputs.scratch() / "rows.arrow",
                only=[task.name for task in tasks],
            )
        except OSError as error:
            raise self.outputs.failure(error) from None

    def _blocks(self, task: Task, cut: CutRows | None) -> Iterator[ReadBlock]:
        """Yield the rows of a partition.

        Raises:
          FraudError: a file cannot be read.
        """
        sides = self.plan.sides
        if cut is not None and task.partition.cut:
            if (error := cut.error_of(task.partition)) is not None:
                raise error
            yield from cut.blocks(task.name)
            return
        inputs = task.partition.inputs(sides.schema, labels=sides.labels)
        yield from read_transactions(
            inputs, sides.schema, labels=sides.labels, block_rows=self.settings.block_rows
        )

    def _independently(self, cut: CutRows | None) -> None:
        """Score partitions whose rows need no others."""
        with Lanes(self.settings.workers) as lanes:
            for task in self.plan.tasks:
                if task.pending:
                    lanes.put(Lane(), partial(self._alone, task, cut))

    def _alone(self, task: Task, cut: CutRows | None) -> None:
        """Score one partition from its files to its directory."""
        partition = self.partition(task)
        try:
            task.refuse_if_unreadable()
            for block in self._blocks(task, cut):
                rows = self.within_period(_plain(block.transactions))
                partition.tally.count(block, len(block.transactions) - len(rows))
                partition.dead(block.dead_letters)
                partition.score(rows)
        except FraudError as error:
            partition.fail(error, unread=True)
        self.progress.read(task.size)
        partition.finish(())

    def _in_order(self, cut: CutRows | None) -> None:
        """Score partitions whose rows need earlier ones: for windows, or to find repeats."""
        walk = _Walk(self)
        needed = [task for task in self.plan.tasks if task.needed]
        try:
            with Lanes(self.settings.workers) as lanes:
                walk.read_history()
                for number, task in enumerate(self.plan.tasks):
                    if not task.needed:
                        walk.skip(task)
                        continue
                    walk.read(number, task, cut, lanes)
                    del needed[0]
                    walk.advance(first_of(needed), lanes)
                    self.progress.read(task.size)
        except BaseException:
            walk.give_up()
            raise

    def within_period(self, transactions: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows to score."""
        since, until = self.plan.scope.since, self.plan.scope.until
        if since is None and until is None:
            return transactions
        times = event_micros(transactions)
        within = np.ones(len(times), dtype=bool)
        if since is not None:
            within &= times >= since
        if until is not None:
            within &= times < until
        return transactions if within.all() else transactions.filter(pa.array(within))


def _plain(transactions: pa.RecordBatch) -> pa.RecordBatch:
    return transactions.drop_columns([POSITION]).replace_schema_metadata(None)


class _Walk:
    """Rows of partitions on their way through the windows."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._order = TimeOrder()
        self._windows = Windows(run.plan.sides.velocity) if run.plan.sides.velocity else None
        self._seen = SeenIds() if run.settings.dedupe_across else None
        self._partitions: dict[int, Partition] = {}
        #: Rows of each partition that wait.
        self._waiting: dict[int, int] = {}
        self._unread: set[str] = set()

    def read_history(self) -> None:
        """Read the rows of --history that windows still reach."""
        plan = self._run.plan
        if not plan.history or not plan.sides.velocity:
            return
        since = plan.history_from()
        sides = plan.sides
        for block in read_transactions(plan.history, sides.schema, labels=sides.labels):
            rows = _plain(block.transactions)
            if since is not None:
                rows = rows.filter(pa.array(event_micros(rows) >= since))
            self._order.add(rows, -1)

    def read(self, number: int, task: Task, cut: CutRows | None, lanes: Lanes) -> None:
        """Read a partition as a whole; one that cannot be read leaves no row."""
        run = self._run
        partition = run.partition(task) if task.pending else None
        held: list[pa.RecordBatch] = []
        dead: list[pa.RecordBatch] = []
        try:
            task.refuse_if_unreadable()
            for block in run._blocks(task, cut):
                block = self._without_repeated(block)
                # Rows outside the period fill windows.
                rows = _plain(block.transactions)
                if not task.holds(rows):
                    if not task.measured:
                        raise LateRowsError
                    raise FraudError(
                        f"partition {task.name}: has rows outside of the times that its files "
                        "said; write them again if they have not changed meanwhile",
                        Code.INPUT_CHANGED,
                    )
                held.append(rows)
                if partition is not None:
                    partition.tally.count(block, len(rows) - len(run.within_period(rows)))
                    dead.append(block.dead_letters)
            task.refuse_if_changed()
        except FraudError as error:
            held, dead = [], []
            self._unread.add(task.name)
            if partition is not None:
                partition.fail(error, unread=True)
        for rows in held:
            self._order.add(rows, number)
        if partition is None:
            return
        for letters in dead:
            lanes.put(partition.lane, partial(partition.dead, letters))
        self._partitions[number] = partition
        self._waiting[number] = sum(map(len, held))

    def skip(self, task: Task) -> None:
        """Pass over a complete partition, of which only the ids matter."""
        if self._seen is None:
            return
        known = self._run.plan.before.complete.get(task.name)
        written = () if known is None else known.outputs
        for place in self._run.outputs.scores(task.name, written):
            with open_file(place) as source, pq.ParquetFile(source) as file:
                for batch in file.iter_batches(columns=["transaction_id", "shadow"]):
                    ids = batch.filter(pc.invert(batch.column("shadow"))).column("transaction_id")
                    self._seen.first_time(ids)

    def give_up(self) -> None:
        """Write nothing more."""
        for partition in self._partitions.values():
            partition.give_up()

    def advance(self, moment: int | None, lanes: Lanes) -> None:
        """Let the rows before a time pass, and finish partitions all of whose rows have passed."""
        for rows in self._order.before(moment):
            self._pass(rows, lanes)
        for number in [number for number, rows in self._waiting.items() if not rows]:
            del self._waiting[number]
            partition = self._partitions.pop(number)
            without = tuple(name for name in partition.task.reaches if name in self._unread)
            lanes.put(partition.lane, partial(partition.finish, without))

    def _pass(self, rows: pa.RecordBatch, lanes: Lanes) -> None:
        numbers = set(np.unique(rows.column(PARTITION).to_numpy()).tolist())
        if numbers.isdisjoint(self._partitions):
            if self._windows is not None:
                self._windows.fill(rows.drop_columns([PARTITION]))
            return
        if self._windows is not None:
            rows = self._windows.add(rows)
        for number, some in by_partition(rows):
            if number in self._partitions:
                partition = self._partitions[number]
                self._waiting[number] -= len(some)
                within = self._run.within_period(some)
                lanes.put(partition.lane, partial(partition.score, within))

    def _without_repeated(self, block: ReadBlock) -> ReadBlock:
        if self._seen is None or not len(block.transactions):
            return block
        first = self._seen.first_time(block.transactions.column("transaction_id"))
        if first.all():
            return block
        kept = block.transactions.filter(pa.array(first))
        repeated = int(np.count_nonzero(~first))
        return ReadBlock(
            kept,
            block.dead_letters,
            block.duplicates + repeated,
            block.doubts,
            block.skipped,
        )


def totals(records: Sequence[PartitionRecord]) -> dict[str, int]:
    """Return the counts of rows over partitions."""
    names = (
        "rows_in",
        "rows_scored",
        "rows_flagged",
        "rows_dead",
        "rows_duplicate",
        "rows_tombstone",
        "rows_correction",
        "rows_outside",
    )
    return {name: sum(getattr(record, name) for record in records) for name in names}


def side_microseconds(records: Sequence[PartitionRecord]) -> Mapping[str, float]:
    """Return the microseconds of the processor per row of each side."""
    rows = sum(record.rows_scored for record in records)
    keys = dict.fromkeys(key for record in records for key in record.side_seconds)
    return {
        key: round(sum(r.side_seconds.get(key, 0.0) for r in records) / rows * 1e6, 3)
        for key in keys
        if rows
    }

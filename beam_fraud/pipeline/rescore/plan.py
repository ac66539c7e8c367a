"""Plan which partitions of an archive to read and which to score."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.velocity.reach import WindowReach, look_back
from beam_fraud.pipeline.rescore.manifest import (
    FileRecord,
    Inputs,
    PartitionRecord,
    identity_of,
)
from beam_fraud.pipeline.rescore.sides import Sides
from beam_fraud.records.event_span import event_span, parquet_span
from beam_fraud.records.read import read_transactions
from beam_fraud.records.time_settlement import contested, times_alone
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros, micros_of, moment_of
from beam_fraud.schema.schema import Schema
from beam_fraud.sources.archive import ArchiveFile, ArchivePartition, Cut
from beam_fraud.sources.filesystem import size_and_time
from beam_fraud.sources.segment import InputFile

#: Name of the history among what windows reach.
HISTORY = "--history"


@dataclass
class Task:
    """A partition of the archive, and what to do with it."""

    partition: ArchivePartition
    #: Earliest and latest event time, microseconds; None where no row has one.
    first: int | None
    last: int | None
    #: Whether the rows themselves say so, and not the directory alone, which is some hours off in
    #: another time zone.
    measured: bool
    #: Its files; None if one cannot be read.
    files: tuple[FileRecord, ...] | None
    #: Why one cannot be read.
    error: FraudError | None
    #: Models, rules and options.
    about: PartitionRecord
    #: Names of what its windows reach, with the files of each.
    reached: dict[str, tuple[FileRecord, ...]] = field(default_factory=dict)
    #: Whether to score it, and whether to read it: its rows are in windows of rows to score.
    pending: bool = True
    needed: bool = True

    @property
    def name(self) -> str:
        """Name of the partition."""
        return self.partition.name

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(file.size for file in self.partition.files)

    @property
    def reaches(self) -> tuple[str, ...]:
        """Names of the partitions that its windows reach."""
        return tuple(self.reached)

    def widen(self, first: int | None, last: int | None) -> None:
        """Include rows in the times of the partition; None for no rows."""
        if first is not None and self.first is not None:
            self.first = min(first, self.first)
        if last is not None and self.last is not None:
            self.last = max(last, self.last)

    def holds(self, rows: pa.RecordBatch) -> bool:
        """Return whether the times of transactions are within those of the partition."""
        if not len(rows) or self.first is None or self.last is None:
            return True
        times = event_micros(rows)
        return bool(self.first <= times.min() and times.max() <= self.last)

    def record(self, without: Sequence[str] = ()) -> PartitionRecord:
        """Return the record of the partition, without counts.

        Args:
          without: partitions in reach that could not be read.
        """
        record = msgspec.structs.replace(
            self.about,
            inputs=self.files or (),
            reaches=_ends(self.reaches),
            without=tuple(without),
        )
        reached = [files for name, files in self.reached.items() if name not in without]
        return msgspec.structs.replace(record, identity=identity_of(record, reached))

    def failed(self, error: FraudError, *, unread: bool) -> PartitionRecord:
        """Return the record of a failure."""
        return msgspec.structs.replace(
            self.record(), state="failed", error=str(error), code=str(error.code), unread=unread
        )

    def refuse_if_unreadable(self) -> None:
        """Check that the files could be read for their digests.

        Raises:
          FraudError: one could not.
        """
        if self.error is not None:
            raise self.error

    def refuse_if_changed(self) -> None:
        """Check that the files are those that were listed.

        Raises:
          FraudError: one has changed.
        """
        for file in self.partition.files:
            size, modified = size_and_time(file.place)
            if size != file.size or not _same_time(file, modified):
                raise FraudError(
                    f"{file.path}: has changed while it was read; repeat the call",
                    Code.INPUT_CHANGED,
                )


@dataclass(frozen=True)
class Before:
    """The outputs of earlier runs."""

    #: Records of complete partitions, and of failed ones, by name.
    complete: Mapping[str, PartitionRecord]
    failed: Mapping[str, PartitionRecord]


@dataclass(frozen=True)
class Scope:
    """The part of an archive to score, and how."""

    #: Options that change results.
    options: Mapping[str, Any]
    #: Period of the rows to score, microseconds.
    since: int | None = None
    until: int | None = None
    #: Length of partitions that are cut by event time.
    cut: Cut = "day"
    #: Files of --history, as a partition.
    history: ArchivePartition | None = None
    #: Whether ids are unique over all partitions.
    dedupe_across: bool = False


@dataclass
class Plan:
    """The partitions of a run, in the order of their times."""

    tasks: list[Task]
    sides: Sides
    scope: Scope
    #: Files of --history, and their records.
    history: tuple[InputFile, ...]
    history_files: tuple[FileRecord, ...]
    #: What earlier runs left.
    before: Before
    #: Whether partitions turned out to have rows far outside of the times of their directories.
    widened: bool = False

    @property
    def in_order(self) -> bool:
        """Return whether rows need those of earlier partitions."""
        return bool(self.sides.velocity) or self.scope.dedupe_across

    @property
    def pending(self) -> list[Task]:
        """Partitions to score."""
        return [task for task in self.tasks if task.pending]

    def history_from(self) -> int | None:
        """Return the time from which earlier rows fill windows; None if unknown."""
        firsts = [task.first for task in self.pending if task.first is not None]
        return min(firsts) - look_back(self.sides.velocity) if firsts else None

    def reach(self) -> WindowReach | None:
        """Return the reach of the windows, as far as known before reading."""
        horizon, begin = look_back(self.sides.velocity), first_of(self.tasks)
        if not horizon or begin is None:
            return None
        first = begin if self.scope.since is None else max(begin, self.scope.since)
        if not self.history:
            return WindowReach(horizon, history=False, first_row=begin).measured_from(first)
        span = event_span(self.history, self.sides.schema)
        earliest = None if span is None else min(span[0], begin)
        return WindowReach(horizon, history=True, history_from=earliest, first_row=first)

    def link(self) -> None:
        """Find what the windows of each partition reach."""
        horizon, span = look_back(self.sides.velocity), None
        if self.history:
            span = event_span(self.history, self.sides.schema)
        for number, task in enumerate(self.tasks):
            across = self.scope.dedupe_across
            others = _reached(self.tasks, number, horizon, dedupe_across=across)
            task.reached = {other.name: other.files or () for other in others}
            if self.history and horizon and _in_reach(span, task, horizon):
                task.reached[HISTORY] = self.history_files

    def read_bounds(self) -> None:
        """Read the times of partitions whose bounds are not measured, and link them again."""
        for task in self.tasks:
            if task.measured or task.partition.begin is None:
                continue
            schema = replace(times_alone(self.sides.schema), timezone=self.sides.schema.timezone)
            times: list[int] = []
            try:
                inputs = task.partition.inputs(schema, labels="ignored")
                for block in read_transactions(inputs, schema, labels="ignored"):
                    if len(block.transactions):
                        micros = event_micros(block.transactions)
                        times += [int(micros.min()), int(micros.max())]
            except FraudError:
                # Reading the partition reports it.
                pass
            task.widen(min(times, default=None), max(times, default=None))
            task.measured = True
        self.widened = True
        self.link()
        mark_needed(self, look_back(self.sides.velocity))


def first_of(tasks: Sequence[Task]) -> int | None:
    """Return the earliest event time of partitions; None if there is none."""
    return min((task.first for task in tasks if task.first is not None), default=None)


def plan_of(
    partitions: Sequence[ArchivePartition],
    sides: Sides,
    before: Before,
    inputs: Inputs,
    scope: Scope,
) -> Plan:
    """Compare an archive with what earlier runs left.

    Args:
      partitions: in the order of their times.
      sides: models and rules.
      before: what earlier runs left.
      inputs: digests of the files; those of the partitions and of the history are read here.
      scope: what is scored.

    Raises:
      FraudError: a file of the history cannot be read.
    """
    history = scope.history
    inputs.read([*partitions, *([] if history is None else [history])])
    tasks = [_task(one, sides, inputs, scope) for one in partitions]
    for task in tasks:
        known = before.complete.get(task.name)
        if not task.measured and known is not None:
            # Of rows that are far outside of the times of their directory.
            first, last = known.first_event, known.last_event
            task.widen(
                None if first is None else micros_of(first),
                None if last is None else micros_of(last),
            )
    opened: tuple[InputFile, ...] = ()
    files: tuple[FileRecord, ...] = ()
    if history is not None:
        opened = tuple(history.inputs(sides.schema, labels=sides.labels))
        files = inputs.of(history)
    plan = Plan(tasks, sides, scope, opened, files, before)
    plan.link()
    unread = {task.name for task in tasks if _fails_again(task, before)}
    for task in tasks:
        expected = task.record([name for name in task.reaches if name in unread])
        complete = before.complete.get(task.name)
        done = complete is not None and complete.identity == expected.identity
        wanted = _meets(task, scope.since, scope.until)
        task.pending = wanted and (not done or task.files is None)
    mark_needed(plan, look_back(sides.velocity))
    return plan


def _task(partition: ArchivePartition, sides: Sides, inputs: Inputs, scope: Scope) -> Task:
    files, error = None, None
    try:
        files = inputs.of(partition)
    except FraudError as known:
        error = known
    first, last, measured = _bounds(partition, sides.schema, windows=bool(sides.velocity))
    options = {**scope.options, "schema": _digest_of(sides.schema)}
    if scope.since is not None and (first is None or first < scope.since):
        options["from"] = moment_of(scope.since).isoformat()
    if scope.until is not None and (last is None or last >= scope.until):
        options["until"] = moment_of(scope.until).isoformat()
    about = PartitionRecord(
        name=partition.name,
        model_ids=tuple(side.bundle.model_id for side in sides.all),
        rules=tuple(side.rule_set for side in sides.all),
        options=options,
    )
    return Task(partition, first, last, measured, files, error, about)


def _bounds(
    partition: ArchivePartition, schema: Schema, *, windows: bool
) -> tuple[int | None, int | None, bool]:
    """Return the first and last time of a partition, and whether its rows say so."""
    if partition.begin is None or partition.end is None:
        return None, None, True
    if partition.cut or not windows:
        return partition.begin, partition.end - 1, True
    spans = []
    for file in partition.files:
        told = file.found.format.name == "parquet" and not contested(schema.time.forms)
        renamed = file.found.data is not None and file.found.data.renamed
        span = parquet_span(file.place, schema) if told and not renamed else None
        if span is None:
            # A directory may name the day of another time zone.
            return partition.begin - DAY, partition.end - 1 + DAY, False
        spans.append(span)
    return min(first for first, _ in spans), max(last for _, last in spans), True


def _same_time(file: ArchiveFile, modified: float | None) -> bool:
    """Return whether a file was changed at the time that was listed, if that is known."""
    if file.modified is None or modified is None:
        return True
    # Stores list some times to the second alone.
    fine = file.place.local is not None
    return file.modified == modified if fine else abs(file.modified - modified) < 1


def _ends(names: Sequence[str]) -> tuple[str, ...]:
    """Return the first and the last partition among names, and `HISTORY`."""
    partitions = [name for name in names if name != HISTORY]
    history = (HISTORY,) if HISTORY in names else ()
    return tuple(dict.fromkeys([*partitions[:1], *partitions[-1:], *history]))


def _reached(
    tasks: Sequence[Task], number: int, horizon: int, *, dedupe_across: bool
) -> list[Task]:
    """Return the other partitions whose rows matter to those of a partition."""
    task = tasks[number]
    if dedupe_across:
        # An id of any earlier row makes a row a repeat.
        return list(tasks[:number])
    if not horizon or task.first is None or task.last is None:
        return []
    return [
        other
        for other in tasks
        if other is not task
        and other.first is not None
        and other.last is not None
        and other.last > task.first - horizon
        and other.first <= task.last
    ]


def _in_reach(span: tuple[int, int] | None, task: Task, horizon: int) -> bool:
    return span is None or task.first is None or span[1] > task.first - horizon


def _fails_again(task: Task, before: Before) -> bool:
    """Return whether a partition cannot be read, now or as it is."""
    if task.files is None:
        return True
    failed = before.failed.get(task.name)
    return (
        failed is not None
        and failed.unread
        and [file.content for file in failed.inputs] == [file.content for file in task.files]
    )


def _meets(task: Task, since: int | None, until: int | None) -> bool:
    """Return whether a partition may have rows to score; others only fill windows."""
    begin, end = task.first, task.last
    if begin is None or end is None:
        return True
    return (since is None or end >= since) and (until is None or begin < until)


def mark_needed(plan: Plan, horizon: int) -> None:
    """Mark the partitions to read: those to score, and those in reach of their windows."""
    reached = {name for task in plan.pending for name in task.reaches} if horizon else set()
    for task in plan.tasks:
        task.needed = task.pending or task.name in reached


def _digest_of(schema: Schema) -> str:
    plain = msgspec.json.encode(schema.to_dict(), order="sorted")
    return f"{schema.name} {hashlib.sha256(plain).hexdigest()[:12]}"

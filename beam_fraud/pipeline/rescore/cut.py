"""Cut files that have rows of several partitions, through an Arrow file on disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from beam_fraud.errors import FraudError
from beam_fraud.records.dead_letters import no_dead_letters
from beam_fraud.records.read import ReadBlock, read_transactions
from beam_fraud.schema.event_time import event_micros
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.archive import (
    ArchiveFile,
    ArchivePartition,
    Cut,
    period_name,
    period_numbers,
)
from beam_fraud.sources.source import inspect

#: Rows of a partition that wait for a write, and of all partitions.
_ROWS_AT_ONCE, _MOST_ROWS = 8_192, 1_000_000
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True)
class CutRows:
    """The rows of partitions, read, validated and without repeated ids, on disk."""

    #: The Arrow file of all partitions.
    path: Path
    #: Batches of each partition in it, in the order of reading.
    batches: Mapping[str, Sequence[int]]
    #: Rows that are no transactions, by partition: blocks without transactions.
    others: Mapping[str, Sequence[ReadBlock]]
    #: Errors of files that could not be read to their end, by path.
    errors: Mapping[str, FraudError]

    def error_of(self, partition: ArchivePartition) -> FraudError | None:
        """Return the error of a partition's first unreadable file, or None."""
        errors = (self.errors.get(file.path) for file in partition.files)
        return next((error for error in errors if error is not None), None)

    def blocks(self, partition: str) -> Iterator[ReadBlock]:
        """Yield the rows of a partition in the order of the files; transactions lack an origin.

        Raises:
          OSError: they cannot be read.
        """
        yield from self.others.get(partition, ())
        if numbers := self.batches.get(partition):
            with pa.memory_map(str(self.path)) as file:
                reader = pa.ipc.open_file(file)
                for number in numbers:
                    yield ReadBlock(reader.get_batch(number), no_dead_letters(), 0)


def cut_rows(
    partitions: Sequence[ArchivePartition],
    schema: Schema,
    *,
    labels: Labels,
    cut: Cut,
    path: Path,
    only: Collection[str] | None = None,
) -> CutRows:
    """Read files that have rows of several partitions, each once, and write those of each.

    A row that is no transaction counts in the first partition of its file, whatever its time.

    Args:
      partitions: all of an archive that is cut by event time (`archive_partitions`).
      schema: the schema of the rows.
      labels: treatment of labels.
      cut: length of the partitions.
      path: the Arrow file to write.
      only: names of the partitions to write; None for all.

    Raises:
      OSError: the disk is full or unavailable.
    """
    names = [partition.name for partition in partitions]
    wanted = set(names if only is None else only)
    files: dict[str, tuple[str, ArchiveFile]] = {}
    for partition in partitions:
        for file in partition.files:
            # Partitions are in the order of time.
            files.setdefault(file.path, (partition.name, file))
    needed = {f.path for p in partitions if p.name in wanted for f in p.files}
    others: dict[str, list[ReadBlock]] = defaultdict(list)
    errors: dict[str, FraudError] = {}
    with _Writer(path) as writer:
        for home, file in (files[at] for at in files if at in needed):
            try:
                inputs = inspect(file.found, schema, labels=labels)
                for block in read_transactions(inputs, schema, labels=labels):
                    if home in wanted and block.rows_left_out + block.doubts.total():
                        others[home].append(replace(block, transactions=block.transactions[:0]))
                    for name, rows in _by_period(block.transactions, cut):
                        if name in wanted:
                            writer.write(name, rows)
            except FraudError as error:
                errors[file.path] = error
    return CutRows(path, writer.batches, others, errors)


def _by_period(rows: pa.RecordBatch, cut: Cut) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Yield the rows of each period in their order."""
    numbers = period_numbers(event_micros(rows), cut)
    if not len(numbers):
        return
    if (numbers == numbers[0]).all():
        yield period_name(int(numbers[0]), cut), rows
        return
    order = np.argsort(numbers, kind="stable")
    ordered = rows.take(pa.array(order))
    distinct, starts = np.unique(numbers[order], return_index=True)
    ends = [*starts[1:].tolist(), len(rows)]
    for number, start, end in zip(distinct.tolist(), starts.tolist(), ends, strict=True):
        yield period_name(number, cut), ordered.slice(start, end - start)


class _Writer:
    """Write rows of partitions to one file, as many in memory as `_MOST_ROWS` allows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: dict[str, list[pa.RecordBatch]] = defaultdict(list)
        self._rows: dict[str, int] = defaultdict(int)
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._written = 0
        #: Numbers of the batches of each partition.
        self.batches: dict[str, list[int]] = defaultdict(list)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._flush_all()
        if self._writer is not None:
            self._writer.close()

    def write(self, name: str, rows: pa.RecordBatch) -> None:
        self._waiting[name].append(rows.replace_schema_metadata(None))
        self._rows[name] += len(rows)
        if self._rows[name] >= _ROWS_AT_ONCE:
            self._flush(name)
        elif sum(self._rows.values()) >= _MOST_ROWS:
            self._flush_all()

    def _flush_all(self) -> None:
        for name in list(self._waiting):
            self._flush(name)

    def _flush(self, name: str) -> None:
        batch = pa.concat_batches(self._waiting.pop(name))
        del self._rows[name]
        if self._writer is None:
            self._writer = pa.ipc.new_file(str(self._path), batch.schema, options=_OPTIONS)
        self._writer.write_batch(batch)
        self.batches[name].append(self._written)
        self._written += 1

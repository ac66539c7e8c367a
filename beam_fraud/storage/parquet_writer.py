"""Write record batches to one Parquet file with row groups of equal size."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.storage import atomic

#: Rows of a row group: large enough to compress well, small enough to hold in memory.
ROW_GROUP_ROWS = 131_072
#: Number of small batches that are joined: a batch of one row costs kilobytes.
_JOIN_BATCHES = 512
#: Columns of which nearly every value is another.
_DISTINCT = frozenset({"transaction_id", "event_time"})
#: Footer key of every file, by which a later run recognises files to replace.
_MARK = (b"written_by", b"beam-fraud")


class ParquetBlockWriter:
    """A writer of record batches of one schema to a Parquet file (zstd).

    Holds at most one row group and one batch in memory. A file at a path appears atomically on
    close.

    Args:
      file: a path, or a binary file, which stays open.
      schema: schema of every batch.
      row_group_rows: rows per row group; small groups are fast to write.
      beside: whether a thread writes row groups, while the caller goes on; the next call raises
        what a write did.

    Raises:
      OSError: the file cannot be created or written.
    """

    def __init__(
        self,
        file: Path | BinaryIO,
        schema: pa.Schema,
        row_group_rows: int = ROW_GROUP_ROWS,
        *,
        beside: bool = False,
    ) -> None:
        self._row_group_rows = row_group_rows
        self._thread = ThreadPoolExecutor(1, "parquet") if beside else None
        #: The write that the thread does.
        self._write: Future[None] | None = None
        #: Hidden and final path of a file at a path.
        self._names = (atomic.hidden_beside(file), file) if isinstance(file, Path) else None
        self._schema = schema
        self._writer = pq.ParquetWriter(
            self._names[0] if self._names else file,
            schema,
            compression="zstd",
            use_dictionary=[path for field in schema for path in _repeating(field, field.name)],
        )
        self._writer.add_key_value_metadata(dict([_MARK]))
        self._blocks: list[pa.RecordBatch] = []
        self._recent: list[pa.RecordBatch] = []
        self._waiting = 0
        self._rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows of `batch`.

        Raises:
          ValueError: it has another schema.
          OSError: the file cannot be written.
        """
        if not batch.schema.equals(self._schema):
            raise ValueError(f"a batch with another schema: {batch.schema.names}")
        if not batch.num_rows:
            return
        self._recent.append(batch)
        self._waiting += batch.num_rows
        self._rows += batch.num_rows
        if self._waiting >= self._row_group_rows:
            whole = self._waiting - self._waiting % self._row_group_rows
            table = self._take()
            self._write_table(table.slice(0, whole))
            rest = table.slice(whole).to_batches()
            # A copy: a slice would keep the buffers of all written rows.
            self._blocks = _joined([*rest, rest[0].slice(0, 0)]) if rest else []
            self._waiting -= whole
        elif len(self._recent) >= _JOIN_BATCHES:
            self._blocks += _joined(self._recent)
            self._recent = []

    def close(self) -> int:
        """Write the buffered rows and the footer; return the number of rows in the file."""
        if self._waiting:
            self._write_table(self._take())
            self._waiting = 0
        self._written()
        if self._thread is not None:
            self._thread.shutdown()
        self._writer.close()
        if self._names:
            atomic.move(*self._names)
        return self._rows

    def give_up(self) -> None:
        """Write nothing more after a failure, also where Arrow would once this is deleted."""
        self._writer.is_open = False

    def _take(self) -> pa.Table:
        blocks, self._blocks, self._recent = [*self._blocks, *self._recent], [], []
        return pa.Table.from_batches(blocks, schema=self._schema)

    def _write_table(self, table: pa.Table) -> None:
        self._written()
        write = partial(self._writer.write_table, table, row_group_size=self._row_group_rows)
        if self._thread is None:
            write()
        else:
            self._write = self._thread.submit(write)

    def _written(self) -> None:
        """Wait for the thread, and raise what its write did."""
        write, self._write = self._write, None
        if write is not None:
            write.result()


def _repeating(field: pa.Field, path: str) -> list[str]:
    """Return the paths of a column whose values repeat; a dictionary of others costs time."""
    kind = field.type
    if pa.types.is_list(kind):
        return _repeating(kind.value_field, f"{path}.list.element")
    if pa.types.is_struct(kind):
        return [leaf for part in kind for leaf in _repeating(part, f"{path}.{part.name}")]
    return [] if path in _DISTINCT else [path]


def _joined(blocks: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    joined: list[pa.RecordBatch] = pa.Table.from_batches(blocks).combine_chunks().to_batches()
    return joined


def is_ours(path: Path) -> bool:
    """Return whether `path` is a Parquet file that a `ParquetBlockWriter` wrote."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowException):
        return False
    key, value = _MARK
    return bool(metadata.get(key) == value)

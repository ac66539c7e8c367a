"""Record batches of columnar files: columns by name or path, validated, numbered and joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.nested import column_of, with_nested
from beam_fraud.sources.partitions import with_partitions
from beam_fraud.sources.raw import POSITION, Origin, with_origin
from beam_fraud.sources.segment import InputFile, Segment
from beam_fraud.wording import first_line

#: Maximum bytes of a batch of many small ones.
BATCH_BYTES = 64 << 20


@contextmanager
def damage(what: str) -> Iterator[None]:
    """Convert any error on a file's bytes to `what`."""
    try:
        yield
    except FraudError:
        raise
    except Exception as error:
        raise FraudError(f"{what}: {first_line(error)}", Code.INPUT_DAMAGED) from None


def columns_read(arrow: pa.Schema, schema: Schema, *, labels: Labels) -> list[str]:
    """Return the columns and paths that `schema` reads of a file with these columns."""
    wanted = schema.columns(labels=labels)
    there = set(with_nested(arrow, wanted).names)
    return [column for column in wanted if column in there]


def selected(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """Return these columns and paths of a batch, validated where later steps do not.

    Raises:
      ValueError: a column is damaged.
    """
    batch.validate()
    arrays = [checked(column_of(batch, column)) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def checked(column: pa.Array) -> pa.Array:
    """Validate a column for kernels: Arrow trusts a file's indices, and filters no views."""
    if pat.is_dictionary(column.type):
        indices, size = pc.min_max(column.indices), len(column.dictionary)
        least, most = indices["min"].as_py(), indices["max"].as_py()
        if least is not None and not 0 <= least <= most < size:
            raise ValueError(f"index {most if least >= 0 else least} of {size} values")
        column.dictionary.validate()
    if pat.is_string_view(column.type) or pat.is_binary_view(column.type):
        return column.cast(pa.binary_view()).cast(pa.large_binary())
    return column


def regrouped(
    batches: Iterator[pa.RecordBatch], block_rows: int, row_limit: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Join and cut batches to `block_rows` rows each, fewer where they take much memory.

    Args:
      batches: batches of any number of rows.
      block_rows: rows of a batch.
      row_limit: maximum of rows together, or None.
    """
    some: list[pa.RecordBatch] = []
    rows = size = 0
    left = row_limit
    try:
        while (left is None or left > 0) and (batch := next(batches, None)) is not None:
            if left is not None:
                batch = batch.slice(0, left)
                left -= len(batch)
            while len(batch):
                part = batch.slice(0, block_rows - rows)
                if some and size + part.nbytes > BATCH_BYTES:
                    yield _together(some)
                    some, rows, size = [], 0, 0
                    continue
                batch = batch.slice(len(part))
                some.append(part)
                rows, size = rows + len(part), size + part.nbytes
                if rows == block_rows:
                    yield _together(some)
                    some, rows, size = [], 0, 0
    except FraudError:
        # The rows before the damage.
        if some:
            yield _together(some)
        raise
    if some:
        yield _together(some)


def _together(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def raw_batches(
    segment: Segment, batches: Iterator[pa.RecordBatch], *, promised: int | None
) -> Iterator[pa.RecordBatch]:
    """Number the rows of a segment's batches: yield raw batches (`sources.raw`).

    Args:
      segment: what is read.
      batches: the rows in order, with the columns that the schema reads.
      promised: number of rows by the file's metadata, or None.

    Raises:
      FraudError: other rows came than were promised.
    """
    file, row = segment.file, segment.first_row
    deleted = np.unpackbits(np.frombuffer(file.deleted, np.uint8)).astype(bool)
    for block, batch in enumerate(batches):
        twice = tuple(one for one in file.partitions if one[0] in batch.schema.names)
        origin = Origin(
            file.name,
            file.format.name,
            block,
            segment.whole,
            forms=file.forms,
            partitions=() if file.of_table else twice,
        )
        positions = pa.array(np.arange(row, row + len(batch), dtype=np.int64))
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        if file.partitions:
            columns = with_partitions(columns, file.partitions, len(batch))
        named = {POSITION: positions, **columns}
        described = pa.schema([pa.field(name, column.type) for name, column in named.items()])
        raw = pa.RecordBatch.from_arrays(
            list(named.values()), schema=with_origin(described, origin)
        )
        if (gone := deleted[row : row + len(batch)]).any():
            raw = raw.filter(pa.array(~np.pad(gone, (0, len(batch) - len(gone)))))
        row += len(batch)
        if len(raw):
            yield raw
    came = row - segment.first_row
    if segment.row_limit is None and promised is not None and came != promised:
        raise FraudError(
            f"{file.place}: is damaged after row {row}: "
            f"its footer promises {promised} rows where {came} came",
            Code.INPUT_DAMAGED,
        )


def split_parts(
    file: InputFile, parts: Sequence[tuple[int, int]], bytes_each: int
) -> Iterator[Segment]:
    """Cut a file into segments of whole parts, about `bytes_each` each.

    Args:
      file: the file.
      parts: rows and stored bytes of each row group, stripe or block.
      bytes_each: stored bytes of a segment.
    """
    start, first_row, row, size = 0, 0, 0, 0
    for part, (rows, stored) in enumerate(parts):
        row += rows
        size += stored
        last = part == len(parts) - 1
        if size >= bytes_each or last:
            yield Segment(file, start, None if last and not start else part + 1, first_row)
            start, first_row, size = part + 1, row, 0
    if not parts:
        yield Segment(file)

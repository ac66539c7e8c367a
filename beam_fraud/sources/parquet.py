"""Parquet files: the schema is checked before anything is scored, rows come by row groups."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat

from beam_fraud.errors import FraudError
from beam_fraud.schema import Labels, Schema
from beam_fraud.sources.columns import lacks_column, mistyped, required_columns
from beam_fraud.sources.filesystem import open_file
from beam_fraud.sources.raw import POSITION, Origin, with_origin
from beam_fraud.sources.segment import InputFile, Segment

#: Bytes of a column chunk that are read at a time, so that a huge row group is not read whole.
_BUFFER_BYTES = 1 << 20


def check_parquet(path: str, schema: Schema, *, labels: Labels) -> int:
    """Refuse a file that lacks or mistypes a column.

    Returns:
      The number of its rows.

    Raises:
      FraudError: the file, the column and what is wrong.
    """
    with _open(path) as file:
        arrow = file.schema_arrow
        for column in required_columns(schema, labels=labels):
            if column not in arrow.names:
                raise lacks_column(path, column, arrow.names, schema)
        for column in schema.columns(labels=labels):
            if arrow.names.count(column) > 1:
                raise FraudError(f"{path}: column {column!r} is there twice; rename one of them")
            if column in arrow.names:
                type = arrow.field(column).type
                expected = mistyped(schema, column, type, labels=labels)
                if expected:
                    raise FraudError(f"{path}: column {column!r} is {type}, should be {expected}")
        return int(file.metadata.num_rows)


def read_parquet(
    segment: Segment, schema: Schema, block_rows: int, *, labels: Labels
) -> Iterator[pa.RecordBatch]:
    """Raw batches of at most `block_rows` rows each, with just the columns that `schema` reads.

    Raises:
      FraudError: the file cannot be read.
    """
    source = segment.file
    row, left = segment.first_row, segment.row_limit
    with _open(source.path) as file:
        present = set(file.schema_arrow.names)
        columns = [c for c in schema.columns(labels=labels) if c in present]
        groups = range(segment.start, segment.stop or file.metadata.num_row_groups)
        batches = file.iter_batches(block_rows, row_groups=list(groups), columns=columns)
        block = 0
        while left is None or left > 0:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                line = (str(error).splitlines() or ["unknown error"])[0]
                raise FraudError(f"{source.path}: is damaged after row {row}: {line}") from None
            if batch is None:
                return
            if left is not None:
                batch = batch.slice(0, left)
                left -= len(batch)
            origin = Origin(source.name, "parquet", block, segment.whole)
            positions = pa.array(np.arange(row, row + len(batch), dtype=np.int64))
            # Parquet takes `a` for the folder of a column `a.b` and reads that as well.
            arrays = [positions, *(_without_views(batch.column(name)) for name in columns)]
            yield pa.RecordBatch.from_arrays(
                arrays, schema=with_origin(_described(arrays, columns), origin)
            )
            row, block = row + len(batch), block + 1


def _without_views(column: pa.Array) -> pa.Array:
    """Views as plain bytes: Arrow cannot filter views."""
    if pat.is_string_view(column.type) or pat.is_binary_view(column.type):
        return column.cast(pa.binary_view()).cast(pa.large_binary())
    return column


def _described(arrays: list[pa.Array], columns: list[str]) -> pa.Schema:
    names = [POSITION, *columns]
    return pa.schema([pa.field(n, a.type) for n, a in zip(names, arrays, strict=True)])


def split_parquet(file: InputFile, bytes_each: int) -> Iterator[Segment]:
    """Cut a file into segments of whole row groups, about `bytes_each` (as stored) each."""
    with _open(file.path) as opened:
        metadata = opened.metadata
        groups = metadata.num_row_groups
        start, first_row, row, size = 0, 0, 0, 0
        for group in range(groups):
            described = metadata.row_group(group)
            row += described.num_rows
            size += sum(
                described.column(i).total_compressed_size for i in range(metadata.num_columns)
            )
            if size >= bytes_each or group == groups - 1:
                last = group == groups - 1
                yield Segment(file, start, None if last and not start else group + 1, first_row)
                start, first_row, size = group + 1, row, 0
        if not groups:
            yield Segment(file)


def _open(path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(open_file(path), buffer_size=_BUFFER_BYTES)
    except (pa.ArrowException, OSError) as error:
        line = (str(error).splitlines() or ["unknown error"])[0]
        raise FraudError(f"{path}: is not a readable Parquet file: {line}") from None

"""Read Parquet files by row groups, with the schema checked first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pat

from beam_fraud.errors import Code, FraudError
from beam_fraud.platform.wording import first_line
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.columns import check_columns
from beam_fraud.sources.filesystem import open_file
from beam_fraud.sources.parquet_metadata import row_groups
from beam_fraud.sources.parquet_pages import BATCH_BYTES, Sound, sound_groups
from beam_fraud.sources.raw import POSITION, Origin, with_origin
from beam_fraud.sources.segment import InputFile, Segment
from beam_fraud.storage.urls import Place

#: Bytes per read of a column chunk, so that a huge row group is not read at once.
_BUFFER_BYTES = 1 << 20
#: Maximum of items of a list in a footer.
_MAX_FOOTER_ITEMS = 1_000_000


def check_parquet(place: Place, schema: Schema, *, labels: Labels) -> tuple[int, tuple[str, ...]]:
    """Refuse a file that lacks or mistypes a column.

    Returns:
      Number of its rows, and names of its columns.

    Raises:
      FraudError: a column is missing or mistyped; the message names file and column.
    """
    with _open(place) as (file, source), _damage(f"{place}: is not a readable Parquet file"):
        check_columns(place.name, file.schema_arrow, schema, labels=labels)
        rows, grouped = int(file.metadata.num_rows), sum(g.rows for g in row_groups(source))
        if rows != grouped:
            raise ValueError(f"it promises {rows} rows, and {grouped} in row groups")
        return rows, tuple(file.schema_arrow.names)


def read_parquet(
    segment: Segment, schema: Schema, block_rows: int, *, labels: Labels
) -> Iterator[pa.RecordBatch]:
    """Yield raw batches of at most `block_rows` rows with the columns that `schema` reads.

    Raises:
      FraudError: the file cannot be read to its end, or it decompresses to more than memory allows.
    """
    place, name = segment.file.place, segment.file.name
    row, block = segment.first_row, 0
    with _open(place) as (file, source):
        with _damage(f"{place}: is damaged"):
            present = set(file.schema_arrow.names)
            columns = [c for c in schema.columns(labels=labels) if c in present]
            described = row_groups(source)
            groups = range(segment.start, segment.stop or len(described))
            promised = sum(described[group].rows for group in groups)
            sound = Sound(len(groups), block_rows)
            if place.local is not None:
                sound = sound_groups(file, source, groups, columns, block_rows)
        read = _batches(file, groups[: sound.groups], columns, sound.rows, segment)
        for batch in read if sound.rows == block_rows else _joined(read, block_rows):
            origin = Origin(name, "parquet", block, segment.whole)
            positions = pa.array(np.arange(row, row + len(batch), dtype=np.int64))
            arrays = [positions, *batch.columns]
            yield pa.RecordBatch.from_arrays(
                arrays, schema=with_origin(_described(arrays, columns), origin)
            )
            row, block = row + len(batch), block + 1
    came = row - segment.first_row
    if segment.row_limit is not None and came >= segment.row_limit:
        return
    if sound.fault is not None:
        raise FraudError(f"{place}: is damaged after row {row}: {sound.fault}", Code.INPUT_DAMAGED)
    if segment.row_limit is None and came != promised:
        raise FraudError(
            f"{place}: is damaged after row {row}: "
            f"its footer promises {promised} rows where {came} came",
            Code.INPUT_DAMAGED,
        )


def _batches(
    file: pq.ParquetFile, groups: range, columns: list[str], rows: int, segment: Segment
) -> Iterator[pa.RecordBatch]:
    """Yield non-empty batches of these columns, validated where later steps do not."""
    path, row, left = segment.file.path, segment.first_row, segment.row_limit
    with _damage(f"{path}: is damaged after row {row}"):
        batches = file.iter_batches(rows, row_groups=list(groups), columns=columns)
    while left is None or left > 0:
        with _damage(f"{path}: is damaged after row {row}"):
            batch = next(batches, None)
            if batch is None:
                return
            # Parquet treats `a` as the parent of a column `a.b` and reads that as well.
            batch = batch.select(columns)
            batch.validate()
            arrays = [checked(column) for column in batch.columns]
            batch = pa.RecordBatch.from_arrays(arrays, names=columns)
        if left is not None:
            batch = batch.slice(0, left)
            left -= len(batch)
        row += len(batch)
        if len(batch):
            yield batch


def _joined(batches: Iterator[pa.RecordBatch], block_rows: int) -> Iterator[pa.RecordBatch]:
    """Join small batches to larger ones within a memory limit."""
    some: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        if some and (rows + len(batch) > block_rows or size + batch.nbytes > BATCH_BYTES):
            yield pa.concat_batches(some)
            some, rows, size = [], 0, 0
        some.append(batch)
        rows, size = rows + len(batch), size + batch.nbytes
    if some:
        yield pa.concat_batches(some)


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


def _described(arrays: list[pa.Array], columns: list[str]) -> pa.Schema:
    names = [POSITION, *columns]
    return pa.schema([pa.field(n, a.type) for n, a in zip(names, arrays, strict=True)])


def split_parquet(file: InputFile, bytes_each: int) -> Iterator[Segment]:
    """Cut a file into segments of whole row groups, about `bytes_each` (as stored) each."""
    with _open(file.place) as (_, source), _damage(f"{file.place}: is not a readable Parquet file"):
        described = row_groups(source)
        groups = len(described)
        start, first_row, row, size = 0, 0, 0, 0
        for group in range(groups):
            row += described[group].rows
            size += described[group].stored
            if size >= bytes_each or group == groups - 1:
                last = group == groups - 1
                yield Segment(file, start, None if last and not start else group + 1, first_row)
                start, first_row, size = group + 1, row, 0
        if not groups:
            yield Segment(file)


@contextmanager
def _open(place: Place) -> Iterator[tuple[pq.ParquetFile, pa.NativeFile]]:
    """Open a file for Arrow, and its bytes."""
    with _damage(f"{place}: is not a readable Parquet file"):
        source = open_file(place)
        # No list in the footer can have more items than the file has bytes.
        items = min(max(source.size(), 1), _MAX_FOOTER_ITEMS)
        file = pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, thrift_container_size_limit=items)
    with source:
        yield file, source


@contextmanager
def _damage(what: str) -> Iterator[None]:
    """Convert any error on a file's bytes to `what`."""
    try:
        yield
    except FraudError:
        raise
    except Exception as error:
        raise FraudError(f"{what}: {first_line(error)}", Code.INPUT_DAMAGED) from None

"""Read Parquet files by row groups, with the schema checked first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.columnar import (
    columns_read,
    damage,
    raw_batches,
    regrouped,
    selected,
    split_parts,
)
from beam_fraud.sources.columns import check_columns
from beam_fraud.sources.filesystem import open_file
from beam_fraud.sources.nested import stored_name
from beam_fraud.sources.parquet_metadata import row_groups
from beam_fraud.sources.parquet_pages import Sound, sound_groups
from beam_fraud.sources.segment import InputFile, Segment
from beam_fraud.storage.urls import Place

#: Bytes per read of a column chunk, so that a huge row group is not read at once.
_BUFFER_BYTES = 1 << 20
#: Maximum of items of a list in a footer.
_MAX_FOOTER_ITEMS = 1_000_000


def check_parquet(
    place: Place,
    schema: Schema,
    *,
    labels: Labels,
    also: pa.Schema,
    renamed: tuple[tuple[str, str], ...] = (),
) -> tuple[int, tuple[str, ...]]:
    """Refuse a file that lacks or mistypes a column, apart from `also`.

    Returns:
      Number of its rows, and names of its columns.

    Raises:
      FraudError: a column is missing or mistyped; the message names file and column.
    """
    with _open(place) as (file, source), damage(f"{place}: is not a readable Parquet file"):
        arrow = _renamed(file.schema_arrow, dict(renamed))
        names = check_columns(place.name, arrow, schema, labels=labels, also=also)
        rows, grouped = int(file.metadata.num_rows), sum(g.rows for g in row_groups(source))
        if rows != grouped:
            raise ValueError(f"it promises {rows} rows, and {grouped} in row groups")
        return rows, names


def parquet_columns(place: Place) -> pa.Schema:
    """Return the columns of a file.

    Raises:
      FraudError: it is not readable.
    """
    with _open(place) as (file, _):
        return file.schema_arrow


def read_parquet(
    segment: Segment, schema: Schema, block_rows: int, *, labels: Labels
) -> Iterator[pa.RecordBatch]:
    """Yield raw batches of at most `block_rows` rows with the columns that `schema` reads.

    Raises:
      FraudError: the file cannot be read to its end, or it decompresses to more than memory allows.
    """
    place = segment.file.place
    with _open(place) as (file, source):
        with damage(f"{place}: is damaged"):
            names = dict(segment.file.renamed)
            arrow = _renamed(file.schema_arrow, names)
            columns = columns_read(arrow, schema, labels=labels)
            # Parquet treats `a` as the parent of a column `a.b` and reads that as well.
            stored = [_stored(arrow, column, names) for column in columns]
            described = row_groups(source)
            groups = range(segment.start, segment.stop or len(described))
            promised = sum(described[group].rows for group in groups)
            sound = Sound(len(groups), block_rows)
            if place.local is not None:
                sound = sound_groups(file, source, groups, stored, block_rows)
        read = _batches(file, groups[: sound.groups], columns, stored, sound.rows, segment)
        if sound.rows != block_rows:
            read = regrouped(read, block_rows)
        came = segment.first_row
        for batch in raw_batches(segment, read, promised=None if sound.fault else promised):
            came += len(batch)
            yield batch
    if sound.fault is not None and came - segment.first_row != segment.row_limit:
        raise FraudError(f"{place}: is damaged after row {came}: {sound.fault}", Code.INPUT_DAMAGED)


def _batches(
    file: pq.ParquetFile,
    groups: range,
    columns: list[str],
    stored: list[str],
    rows: int,
    segment: Segment,
) -> Iterator[pa.RecordBatch]:
    """Yield non-empty batches of these columns, read by the names that are stored."""
    path, row, left = segment.file.path, segment.first_row, segment.row_limit
    with damage(f"{path}: is damaged after row {row}"):
        batches = file.iter_batches(rows, row_groups=list(groups), columns=stored)
    while left is None or left > 0:
        with damage(f"{path}: is damaged after row {row}"):
            batch = next(batches, None)
            if batch is None:
                return
            if segment.file.renamed:
                names = dict(segment.file.renamed)
                batch = batch.rename_columns([names.get(n, n) for n in batch.schema.names])
            batch = selected(batch, columns)
        if left is not None:
            batch = batch.slice(0, left)
            left -= len(batch)
        row += len(batch)
        if len(batch):
            yield batch


def _renamed(arrow: pa.Schema, names: dict[str, str]) -> pa.Schema:
    """Return a file's columns with their names in its table."""
    if not names:
        return arrow
    return pa.schema([field.with_name(names.get(field.name, field.name)) for field in arrow])


def _stored(arrow: pa.Schema, column: str, names: dict[str, str]) -> str:
    """Return the name by which a column or path is read."""
    stored = stored_name(arrow, column)
    back = {name: own for own, name in names.items()}
    if stored in arrow.names:
        return back.get(stored, stored)
    root, dot, rest = stored.partition(".")
    return back.get(root, root) + dot + rest


def split_parquet(file: InputFile, bytes_each: int) -> Iterator[Segment]:
    """Cut a file into segments of whole row groups, about `bytes_each` (as stored) each."""
    with _open(file.place) as (_, source), damage(f"{file.place}: is not a readable Parquet file"):
        sizes = [(group.rows, group.stored) for group in row_groups(source)]
    yield from split_parts(file, sizes, bytes_each)


@contextmanager
def _open(place: Place) -> Iterator[tuple[pq.ParquetFile, pa.NativeFile]]:
    """Open a file for Arrow, and its bytes."""
    with damage(f"{place}: is not a readable Parquet file"):
        source = open_file(place)
        # No list in the footer can have more items than the file has bytes.
        items = min(max(source.size(), 1), _MAX_FOOTER_ITEMS)
        file = pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, thrift_container_size_limit=items)
    with source:
        yield file, source

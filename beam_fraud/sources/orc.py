"""Read ORC files by stripes, with the schema checked first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.orc as orc

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
from beam_fraud.sources.orc_metadata import Tail, check_lengths, tail_of
from beam_fraud.sources.parquet_pages import most_unfolded
from beam_fraud.sources.segment import InputFile, Segment
from beam_fraud.storage.urls import Place

#: Bytes that a value takes at least, once decoded.
_VALUE_BYTES = 8


def check_orc(
    place: Place, schema: Schema, *, labels: Labels, also: pa.Schema
) -> tuple[int, tuple[str, ...]]:
    """Refuse a file that lacks or mistypes a column, apart from `also`.

    Returns:
      Number of its rows, and names of its columns.

    Raises:
      FraudError: a column is missing or mistyped; the message names file and column.
    """
    with _open(place) as (file, _), damage(_unreadable(place)):
        names = check_columns(place.name, file.schema, schema, labels=labels, also=also)
        rows, striped = int(file.nrows), sum(stripe.rows for stripe in _tail(file).stripes)
        if rows != striped:
            raise ValueError(f"it promises {rows} rows, and {striped} in stripes")
        return rows, names


def orc_columns(place: Place) -> pa.Schema:
    """Return the columns of a file.

    Raises:
      FraudError: it is not readable.
    """
    with _open(place) as (file, _):
        return file.schema


def read_orc(
    segment: Segment, schema: Schema, block_rows: int, *, labels: Labels
) -> Iterator[pa.RecordBatch]:
    """Yield raw batches of at most `block_rows` rows with the columns that `schema` reads.

    Raises:
      FraudError: the file cannot be read to its end.
    """
    place = segment.file.place
    with _open(place) as (file, source):
        with damage(f"{place}: is damaged"):
            columns = columns_read(file.schema, schema, labels=labels)
            tail = _tail(file)
        stripes = range(segment.start, segment.stop or len(tail.stripes))
        promised = sum(tail.stripes[stripe].rows for stripe in stripes)
        read = _batches(file, source, tail, stripes, columns, segment)
        batches = regrouped(read, block_rows, segment.row_limit)
        yield from raw_batches(segment, batches, promised=promised)


def _batches(
    file: orc.ORCFile,
    source: pa.NativeFile,
    tail: Tail,
    stripes: range,
    columns: list[str],
    segment: Segment,
) -> Iterator[pa.RecordBatch]:
    """Yield the stripes, with these columns."""
    stored = [stored_name(file.schema, column) for column in columns]
    roots = {name if name in file.schema.names else name.partition(".")[0] for name in stored}
    places = {place for place, name in enumerate(file.schema.names) if name in roots}
    most = most_unfolded(segment.file.size)
    row = segment.first_row
    for stripe in stripes:
        described = tail.stripes[stripe]
        with damage(f"{segment.file.path}: is damaged after row {row}"):
            # Runs of equal values take no bytes.
            if described.rows * _VALUE_BYTES * len(columns) > most:
                raise ValueError(f"stripe {stripe} unfolds to over {most >> 20} MB, too much")
            if segment.file.place.local is not None:
                check_lengths(source, tail, described, places)
            batch = file.read_stripe(stripe, columns=stored)
            if len(batch) != described.rows:
                raise ValueError(f"{described.rows} rows promised, {len(batch)} came")
            batch = selected(batch, columns)
        row += len(batch)
        yield batch


def split_orc(file: InputFile, bytes_each: int) -> Iterator[Segment]:
    """Cut a file into segments of whole stripes, about `bytes_each` (as stored) each."""
    with _open(file.place) as (opened, _), damage(_unreadable(file.place)):
        sizes = [(stripe.rows, stripe.stored) for stripe in _tail(opened).stripes]
    yield from split_parts(file, sizes, bytes_each)


def _tail(file: orc.ORCFile) -> Tail:
    return tail_of(bytes(file.reader.serialized_file_tail()))


def _unreadable(place: Place) -> str:
    return f"{place}: is not a readable ORC file"


@contextmanager
def _open(place: Place) -> Iterator[tuple[orc.ORCFile, pa.NativeFile]]:
    """Open a file for Arrow, and its bytes."""
    with damage(_unreadable(place)):
        source = open_file(place)
        if not source.size():
            raise FraudError(f"{_unreadable(place)}: it is empty", Code.INPUT_DAMAGED)
        file = orc.ORCFile(source)
    with source:
        yield file, source

"""Read ORC files by stripes, with the schema checked first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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
    with _open(place) as file, damage(_unreadable(place)):
        names = check_columns(place.name, file.schema, schema, labels=labels, also=also)
        rows, striped = int(file.nrows), sum(stripe.rows for stripe in stripes_of(file))
        if rows != striped:
            raise ValueError(f"it promises {rows} rows, and {striped} in stripes")
        return rows, names


def orc_columns(place: Place) -> pa.Schema:
    """Return the columns of a file.

    Raises:
      FraudError: it is not readable.
    """
    with _open(place) as file:
        return file.schema


def read_orc(
    segment: Segment, schema: Schema, block_rows: int, *, labels: Labels
) -> Iterator[pa.RecordBatch]:
    """Yield raw batches of at most `block_rows` rows with the columns that `schema` reads.

    Raises:
      FraudError: the file cannot be read to its end.
    """
    place = segment.file.place
    with _open(place) as file:
        with damage(f"{place}: is damaged"):
            columns = columns_read(file.schema, schema, labels=labels)
            described = stripes_of(file)
        stripes = range(segment.start, segment.stop or len(described))
        promised = sum(described[stripe].rows for stripe in stripes)
        read = _batches(file, described, stripes, columns, segment)
        batches = regrouped(read, block_rows, segment.row_limit)
        yield from raw_batches(segment, batches, promised=promised)


@dataclass(frozen=True)
class Stripe:
    """A stripe, by the footer."""

    #: Number of rows.
    rows: int
    #: Bytes that it takes.
    stored: int


def stripes_of(file: orc.ORCFile) -> list[Stripe]:
    """Return the stripes of an opened file.

    Raises:
      ValueError: the footer is damaged.
    """
    tail = bytes(file.reader.serialized_file_tail())
    try:
        (footer,) = (value for number, value in _fields(tail) if number == _FOOTER)
        stripes = [dict(_fields(value)) for number, value in _fields(footer) if number == _STRIPES]
    except (IndexError, TypeError, ValueError):
        raise ValueError("the footer has no end") from None
    return [
        Stripe(_number(stripe, _ROWS), sum(_number(stripe, part) for part in _PARTS))
        for stripe in stripes
    ]


#: Numbers of fields in ORC's protocol buffers: the footer in the tail, stripes in the footer, and
#: in a stripe the lengths of index, data and footer, and the number of rows.
_FOOTER, _STRIPES, _PARTS, _ROWS = 2, 3, (2, 3, 4), 5


def _number(stripe: dict[int, int | bytes], field: int) -> int:
    value = stripe.get(field, 0)
    if not isinstance(value, int):
        raise ValueError("a field of a stripe is no number")
    return value


def _fields(message: int | bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield numbers and values of a protocol buffer's fields.

    Raises:
      IndexError, TypeError, ValueError: it is none.
    """
    if isinstance(message, int):
        raise TypeError
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = varint() if kind == 2 else {1: 8, 5: 4}[kind]
        if at + size > len(message):
            raise IndexError
        yield key >> 3, message[at : at + size]
        at += size


def _batches(
    file: orc.ORCFile, described: list[Stripe], stripes: range, columns: list[str], segment: Segment
) -> Iterator[pa.RecordBatch]:
    """Yield the stripes, with these columns."""
    stored = [stored_name(file.schema, column) for column in columns]
    most = most_unfolded(segment.file.size)
    row = segment.first_row
    for stripe in stripes:
        with damage(f"{segment.file.path}: is damaged after row {row}"):
            # Runs of equal values take no bytes.
            if described[stripe].rows * _VALUE_BYTES * len(columns) > most:
                raise ValueError(f"stripe {stripe} unfolds to over {most >> 20} MB, too much")
            batch = file.read_stripe(stripe, columns=stored)
            if len(batch) != described[stripe].rows:
                raise ValueError(f"{described[stripe].rows} rows promised, {len(batch)} came")
            batch = selected(batch, columns)
        row += len(batch)
        yield batch


def split_orc(file: InputFile, bytes_each: int) -> Iterator[Segment]:
    """Cut a file into segments of whole stripes, about `bytes_each` (as stored) each."""
    with _open(file.place) as opened, damage(_unreadable(file.place)):
        sizes = [(stripe.rows, stripe.stored) for stripe in stripes_of(opened)]
    yield from split_parts(file, sizes, bytes_each)


def _unreadable(place: Place) -> str:
    return f"{place}: is not a readable ORC file"


@contextmanager
def _open(place: Place) -> Iterator[orc.ORCFile]:
    with damage(_unreadable(place)):
        source = open_file(place)
        if not source.size():
            raise FraudError(f"{_unreadable(place)}: it is empty", Code.INPUT_DAMAGED)
        file = orc.ORCFile(source)
    with source:
        yield file

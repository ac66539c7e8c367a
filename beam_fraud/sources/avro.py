"""Read Avro files by blocks, with the schema checked first.

The rows of a block are decoded one by one, because only that tells where each ends. Strings stay
bytes, and dates and times numbers, until a column is complete.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.types as pat

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.avro_container import (
    MAGIC,
    SYNC_BYTES,
    Block,
    Header,
    block_data,
    blocks,
    number,
    read_header,
)
from beam_fraud.sources.avro_types import UnreadableTypeError, arrow_schema, plain_schema
from beam_fraud.sources.columnar import columns_read, damage, raw_batches, regrouped
from beam_fraud.sources.columns import check_columns
from beam_fraud.sources.filesystem import open_file
from beam_fraud.sources.nested import steps_of, with_nested
from beam_fraud.sources.parquet_pages import most_unfolded
from beam_fraud.sources.segment import InputFile, Segment
from beam_fraud.storage.urls import Place

#: Rows decoded to objects at once, at most.
_ROWS_AT_ONCE = 10_000
_SYNC = bytes(SYNC_BYTES)


def check_avro(
    place: Place, schema: Schema, *, labels: Labels, also: pa.Schema
) -> tuple[int | None, tuple[str, ...]]:
    """Refuse a file that lacks or mistypes a column, apart from `also`.

    Returns:
      Number of its rows if it is on this machine and whole, and names of its columns.

    Raises:
      FraudError: a column is missing or mistyped; the message names file and column.
    """
    with _open(place) as (source, header), damage(_unreadable(place)):
        names = check_columns(
            place.name, _described(place, header), schema, labels=labels, also=also
        )
        if place.local is None:
            return None, names
        try:
            return sum(block.rows for block in blocks(source, header, 0, None)), names
        except ValueError:
            # The rows before the damage are read.
            return None, names


def avro_columns(place: Place) -> pa.Schema:
    """Return the columns of a file.

    Raises:
      FraudError: it is not readable.
    """
    with _open(place) as (_, header):
        return _described(place, header)


def read_avro(
    segment: Segment, schema: Schema, block_rows: int, *, labels: Labels
) -> Iterator[pa.RecordBatch]:
    """Yield raw batches of at most `block_rows` rows with the columns that `schema` reads.

    Raises:
      FraudError: the file cannot be read to its end.
    """
    place = segment.file.place
    with _open(place) as (source, header):
        with damage(f"{place}: is damaged"):
            arrow = _described(place, header)
            columns = columns_read(arrow, schema, labels=labels)
        read = _batches(source, header, with_nested(arrow, columns), columns, segment)
        batches = regrouped(read, block_rows, segment.row_limit)
        yield from raw_batches(segment, batches, promised=None)


def _batches(
    source: pa.NativeFile,
    header: Header,
    arrow: pa.Schema,
    columns: Sequence[str],
    segment: Segment,
) -> Iterator[pa.RecordBatch]:
    most, row = most_unfolded(segment.file.size), segment.first_row
    places = blocks(source, header, segment.start, segment.stop)
    what = f"{segment.file.place}: is damaged after row "
    while True:
        with damage(f"{what}{row}"):
            if (block := next(places, None)) is None:
                return
            records = _Records(header, block, block_data(source, header, block, most))
        while True:
            with damage(f"{what}{row}"):
                rows = records.next(_ROWS_AT_ONCE)
                if not rows:
                    break
                batch = _batch(rows, arrow, columns)
            row += len(batch)
            yield batch


class _Records:
    """The rows of a block."""

    def __init__(self, header: Header, block: Block, data: bytes) -> None:
        self._left = block.rows
        size = [number(block.rows), number(len(data))]
        # Imported here: most inputs need none of it.
        from fastavro import block_reader

        file = io.BytesIO(b"".join([_plain_header(header.schema), *size, data, _SYNC]))
        # Its types do not name the bytes, nor that rows are records.
        self._block: Any = next(iter(block_reader(file)))
        self._rows = iter(self._block)
        self._size = len(data)

    def next(self, most: int) -> list[Any]:
        """Return the next rows; none at the end.

        Raises:
          ValueError: the rows take fewer bytes than there are.
          Exception: a row is damaged.
        """
        rows = [next(self._rows) for _ in range(min(self._left, most))]
        self._left -= len(rows)
        if not rows and self._block.bytes_.tell() != self._size:
            raise ValueError("a block has more bytes than its rows")
        return rows


def _batch(rows: list[dict[str, Any]], arrow: pa.Schema, columns: Sequence[str]) -> pa.RecordBatch:
    arrays = []
    for column in columns:
        path = None if column in rows[0] else steps_of(column)
        name, *steps = path or (column,)
        values = [row[str(name)] for row in rows]
        for step in steps:
            values = _items(values, step)
        arrays.append(_array(values, arrow.field(column).type))
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def _items(values: list[Any], step: str | int) -> list[Any]:
    """Return a member or an item of each value; None where there is none."""
    if isinstance(step, int):
        return [v[step] if isinstance(v, list) and step < len(v) else None for v in values]
    return [v.get(step) if isinstance(v, dict) else None for v in values]


def _array(values: list[Any], type: pa.DataType) -> pa.Array:
    """Return values as they are stored as a column of a type."""
    if pat.is_date32(type) or pat.is_time32(type):
        return pa.array(values, pa.int32()).cast(type)
    if pat.is_timestamp(type) or pat.is_time64(type):
        return pa.array(values, pa.int64()).cast(type)
    if pat.is_decimal(type):
        return _decimals(values, type)
    # Bytes, so that a text that is not UTF-8 costs its own row.
    stored = pa.binary() if pat.is_string(type) else type
    try:
        return pa.array(values, stored)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        # Of a union: numbers among text, or integers that a float does not hold exactly.
        if pat.is_string(type):
            return pa.array([_text(v) for v in values], stored)
        if pat.is_float64(type):
            return pa.array([None if v is None else float(v) for v in values], stored)
        raise


def _text(value: Any) -> bytes | str | None:
    if value is None or isinstance(value, (bytes, str)):
        return value
    return msgspec.json.encode(value)


def _decimals(values: list[Any], type: pa.DataType) -> pa.Array:
    """Return decimals that are stored as big-endian integers."""
    width = type.bit_width // 8
    integers = (0 if v is None else int.from_bytes(v, "big", signed=True) for v in values)
    data = b"".join(integer.to_bytes(width, "little", signed=True) for integer in integers)
    valid = pa.array([v is not None for v in values])
    stored = [valid.buffers()[1], pa.py_buffer(data)]
    return pa.Array.from_buffers(type, len(values), stored)


def split_avro(file: InputFile, bytes_each: int) -> Iterator[Segment]:
    """Cut a file into segments of whole blocks, about `bytes_each` (as stored) each."""
    with _open(file.place) as (source, header):
        start, first_row, row, at = 0, 0, 0, header.end
        try:
            for block in blocks(source, header, 0, None):
                if block.start - start >= bytes_each and block.start > header.end:
                    yield Segment(file, start, block.start, first_row)
                    start, first_row = block.start, row
                row, at = row + block.rows, block.stop
        except ValueError:
            # The reader of the last segment reports the damage.
            at = file.size
        yield Segment(file, start, None if not start else max(at, file.size), first_row)


def _unreadable(place: Place) -> str:
    return f"{place}: is not a readable Avro file"


@contextmanager
def _open(place: Place) -> Iterator[tuple[pa.NativeFile, Header]]:
    with open_file(place) as source:
        with damage(_unreadable(place)):
            header = read_header(str(place), source)
        yield source, header


def _described(place: Place, header: Header) -> pa.Schema:
    try:
        return arrow_schema(header.schema)
    except UnreadableTypeError as error:
        raise FraudError(f"{place}: {error}", Code.INPUT_FORMAT) from None


# Blocks of a file are decoded one after another.
@lru_cache(maxsize=8)
def _plain_header(schema: bytes) -> bytes:
    """Return the header of an uncompressed file with values as they are stored."""
    plain = msgspec.json.encode(plain_schema(schema))
    entries = [(b"avro.schema", plain), (b"avro.codec", b"null")]
    spelled = [part for entry in entries for text in entry for part in (number(len(text)), text)]
    return b"".join([MAGIC, number(len(entries)), *spelled, number(0), _SYNC])

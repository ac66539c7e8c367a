"""CSV files: the header is checked before anything is scored."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from typing import Any

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.columns import lacks_column, required_columns
from beam_fraud.sources.file_format import BYTE_ORDER_MARK, FileFormat
from beam_fraud.sources.filesystem import TextStream
from beam_fraud.sources.segment import CsvLayout
from beam_fraud.storage.urls import Place

DELIMITERS = ",;\t|"
_MAX_HEADER_BYTES = 1 << 20
_ENCODING = 'write its encoding under [source] of the schema, as in encoding = "latin-1"'


def read_layout(
    place: Place,
    file_format: FileFormat,
    schema: Schema,
    *,
    labels: Labels,
    also: Collection[str] = (),
) -> CsvLayout:
    """Return the layout of a CSV file, read from its header.

    The delimiter is the one of comma, semicolon, tab and bar that yields the most columns of
    `schema`.

    Args:
      place: the file.
      file_format: its format and compression.
      schema: the schema of the records.
      labels: treatment of labels.
      also: columns that the header need not have.

    Raises:
      FraudError: the header is missing, lacks a column or repeats one.
    """
    first, length, mark = _first_line(place, file_format)
    if not schema.source.header:
        return layout_of(place.name, first, schema, labels=labels, data_start=length, also=also)
    columns, quote = schema.source.header, schema.source.quote
    fields = {d: split_header(first, d, quote) for d in _delimiters(schema)}
    delimiter = max(fields, key=lambda d: len(fields[d]) == len(columns))
    if len(fields[delimiter]) != len(columns):
        raise FraudError(
            f"{place}: its first line has {max(map(len, fields.values())):,} fields, but header "
            f"under [source] of schema {schema.name} names {len(columns):,} columns",
            Code.HEADER_UNUSABLE,
        )
    layout = CsvLayout(columns, delimiter, mark, quote, header_lines=0)
    _check_columns(place.name, layout, schema, labels=labels, also=also)
    return layout


def layout_of(
    path: str,
    header: str,
    schema: Schema,
    *,
    labels: Labels,
    data_start: int = 0,
    also: Collection[str] = (),
) -> CsvLayout:
    """Return the layout of a header's text; otherwise as `read_layout`.

    Args:
      path: path of the file, for messages.
      header: its text, without a line end.
      schema: the schema of the records.
      labels: treatment of labels.
      data_start: byte offset of the first record.
      also: columns that the header need not have.
    """
    required, quote = schema.columns(labels=labels), schema.source.quote
    headers = {d: split_header(header, d, quote) for d in _delimiters(schema)}
    delimiter = max(headers, key=lambda d: len(set(required) & set(headers[d])))
    layout = CsvLayout(headers[delimiter], delimiter, data_start, quote)
    _check_columns(path, layout, schema, labels=labels, also=also)
    return layout


def _delimiters(schema: Schema) -> str:
    return DELIMITERS if schema.source.delimiter is None else schema.source.delimiter


def _check_columns(
    path: str, layout: CsvLayout, schema: Schema, *, labels: Labels, also: Collection[str]
) -> None:
    columns, required = layout.columns, schema.columns(labels=labels)
    for column in required_columns(schema, labels=labels):
        if column not in columns and column not in also:
            raise lacks_column(path, column, columns, schema)
    for column in required:
        if columns.count(column) > 1:
            raise FraudError(
                f"{path}: column {column!r} is there twice; rename one of them", Code.COLUMN_TWICE
            )


def read_header(place: Place, file_format: FileFormat) -> str:
    """Return the text of a CSV file's header, without its line end.

    Raises:
      FraudError: the file cannot be read, or its first line is no header.
    """
    return _first_line(place, file_format)[0]


def header_of(layout: CsvLayout) -> str:
    """Return the header of a layout, without a line end.

    Example:
      >>> header_of(CsvLayout(("shop; name", "amount"), ";", 0))
      '"shop; name";amount'
    """
    text = io.StringIO()
    csv.writer(text, delimiter=layout.delimiter, lineterminator="").writerow(layout.columns)
    return text.getvalue()


def _first_line(place: Place, file_format: FileFormat) -> tuple[str, int, int]:
    """Return the first line's text, its length and that of a byte order mark, both in bytes."""
    with TextStream(place, file_format) as stream:
        data = b""
        while b"\n" not in data and len(data) <= _MAX_HEADER_BYTES:
            chunk = stream.read(_MAX_HEADER_BYTES)
            if not chunk:
                break
            data += chunk
    line, end, _ = data.partition(b"\n")
    if len(line) > _MAX_HEADER_BYTES:
        raise FraudError(
            f"{place}: its first line is no header: over {_MAX_HEADER_BYTES} bytes",
            Code.HEADER_UNUSABLE,
        )
    if b"\0" in line:
        raise FraudError(
            f"{place}: is not CSV in UTF-8 (it has NUL bytes); {_ENCODING}",
            Code.HEADER_UNUSABLE,
        )
    try:
        text = line.removeprefix(BYTE_ORDER_MARK).decode("utf-8").rstrip("\r")
    except UnicodeDecodeError:
        raise FraudError(
            f"{place}: the header is not UTF-8; {_ENCODING}", Code.HEADER_UNUSABLE
        ) from None
    if "\r" in text:
        raise FraudError(
            f"{place}: its lines end in CR alone; save it with LF or CRLF", Code.HEADER_UNUSABLE
        )
    if not text.strip():
        raise FraudError(
            f"{place}: is empty or begins with an empty line where a header should be",
            Code.HEADER_UNUSABLE,
        )
    return text, len(line) + len(end), len(BYTE_ORDER_MARK) * line.startswith(BYTE_ORDER_MARK)


def split_header(header: str, delimiter: str, quote: str = '"') -> tuple[str, ...]:
    """Return the column names of a header's text; empty if it is no line of CSV."""
    quoting = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    marks: dict[str, Any] = {"delimiter": delimiter, "quotechar": quote or None, "quoting": quoting}
    try:
        names = next(csv.reader([header], **marks), [])
    except csv.Error:
        return ()
    return tuple(name.strip() for name in names)

"""Recognise records of CSV text, parse them to columns, and mark invalid ones."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from beam_fraud.schema.notation import ABSENT
from beam_fraud.sources.lines import MAX_RECORD_BYTES
from beam_fraud.sources.segment import CsvLayout

# Arrow's parser has no field size limit; Python's has one of 128 KB, for the whole process.
csv.field_size_limit(MAX_RECORD_BYTES)

_NEWLINE, _RETURN = b"\n\r"


@dataclass(frozen=True)
class CsvFields:
    """The fields of some records."""

    #: The requested columns of the valid records, in order.
    columns: pa.Table
    #: bool[n]: which records are valid.
    whole: npt.NDArray[np.bool_]


def parse_csv(
    records: pa.BinaryArray,
    layout: CsvLayout,
    types: Mapping[str, pa.DataType],
    absent: Sequence[str] = ABSENT,
) -> CsvFields:
    """Parse consecutive records in memory.

    Args:
      records: binary[n], UTF-8, each with its line end; no nulls.
      layout: what the header says.
      types: the requested columns and their types.
      absent: spellings of an absent number.

    Returns:
      The fields. A record with another number of columns or an unclosed quote is invalid, and
      affects no other record.

    Raises:
      pyarrow.ArrowInvalid: a field cannot be converted to its column's type.
    """
    text, bounds = _text(records)
    certain = are_certain_records(text, bounds, layout.delimiter, layout.quote)
    if certain.all():
        fields = _parse(text, len(records), layout, types, absent)
        if fields is not None:
            return fields
        certain[:] = False
    return _parse_apart(records, certain, layout, types, absent)


def _parse_apart(
    records: pa.BinaryArray,
    certain: npt.NDArray[np.bool_],
    layout: CsvLayout,
    types: Mapping[str, pa.DataType],
    absent: Sequence[str],
) -> CsvFields:
    """Parse records of which some may reach into the next: quote those again first."""
    requoted = io.StringIO()
    # Python 3.11 quotes a carriage return only if it is part of the line end.
    write = csv.writer(requoted, lineterminator="\r\n", **_dialect(layout)).writerow
    doubtful = np.flatnonzero(~certain)
    split = np.zeros(len(doubtful), dtype=bool)
    for place, record in enumerate(records.take(pa.array(doubtful)).to_pylist()):
        fields = split_record(record.decode(), layout)
        if fields is not None:
            write(fields)
            split[place] = True
    rows = [doubtful[split]]
    parsed = _parse(requoted.getvalue().encode(), int(split.sum()), layout, types, absent)
    assert parsed is not None
    tables = [parsed.columns]
    if certain.any():
        together = parse_csv(records.filter(pa.array(certain)), layout, types, absent)
        tables.append(together.columns)
        rows.append(np.flatnonzero(certain)[together.whole])
    whole = np.zeros(len(records), dtype=bool)
    positions = np.concatenate(rows)
    whole[positions] = True
    return CsvFields(pa.concat_tables(tables).take(pa.array(np.argsort(positions))), whole)


def _text(records: pa.BinaryArray) -> tuple[bytes, npt.NDArray[np.int64]]:
    """Return the memory of the records, and int64[n + 1] bounds in it."""
    if not len(records):
        return b"", np.zeros(1, dtype=np.int64)
    _, offsets, data = records.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[records.offset :][: len(records) + 1]
    text: bytes = data[int(bounds[0]) : int(bounds[-1])].to_pybytes()
    return text, bounds.astype(np.int64) - int(bounds[0])


def _parse(
    text: bytes,
    count: int,
    layout: CsvLayout,
    types: Mapping[str, pa.DataType],
    absent: Sequence[str],
) -> CsvFields | None:
    """Parse `count` records at once; return None if they do not parse one by one.

    A record of zeros is added at each end: the last parses as its own row only if no earlier record
    leaves a quote open, and a byte order mark would be dropped before the first.
    """
    fields = [f"f{i}" for i in range(len(layout.columns))]
    field_of = dict(zip(layout.columns, fields, strict=True))
    wrong: list[int] = []

    def note(row: pyarrow.csv.InvalidRow) -> str:
        wrong.append(row.number)
        return "skip"

    zeros = layout.delimiter.join("0" * len(fields)).encode() + b"\n"
    text = zeros + text + zeros
    selected = [field_of[name] for name in types]
    table = pyarrow.csv.read_csv(
        pa.BufferReader(text),
        pyarrow.csv.ReadOptions(
            column_names=fields, use_threads=False, block_size=max(len(text) + 1, 1024)
        ),
        pyarrow.csv.ParseOptions(
            delimiter=layout.delimiter,
            quote_char=layout.quote or False,
            newlines_in_values=bool(layout.quote),
            invalid_row_handler=note,
        ),
        pyarrow.csv.ConvertOptions(
            include_columns=selected or fields[:1],
            column_types={field_of[name]: type for name, type in types.items()},
            null_values=list(absent),
            strings_can_be_null=False,
            quoted_strings_can_be_null=False,
        ),
    )
    whole = np.ones(count, dtype=bool)
    if table.num_rows + len(wrong) != count + 2 or (wrong and max(wrong) > count + 1):
        return None
    whole[np.array(wrong, dtype=np.int64) - 2] = False
    rows = table.slice(1, table.num_rows - 2).select(selected).rename_columns(list(types))
    return CsvFields(rows, whole)


def is_csv_record(text: bytes, layout: CsvLayout) -> bool:
    """Return whether `text` (line end included) is exactly one record with the header's columns.

    By RFC 4180, a quoted field ends at a quote before a delimiter or the line end: a stray quote in
    a later line closes nothing.

    Example:
      >>> layout = CsvLayout(("shop", "amount"), ",", 0)
      >>> [is_csv_record(text, layout) for text in (b'"Joe\\nbar",3\\n', b'"Joe,1\\n3" pipe,2\\n')]
      [True, False]
    """
    pattern = _record_pattern(layout.delimiter, layout.quote, len(layout.columns))
    return pattern.fullmatch(text) is not None


@lru_cache
def _record_pattern(delimiter: str, quote: str, columns: int) -> re.Pattern[bytes]:
    between, q = re.escape(delimiter.encode()), re.escape(quote.encode())
    quoted = rb"%b[^%b]*+(?:%b%b[^%b]*+)*+%b" % ((q,) * 6)
    plain = rb"[^%b\r\n%b][^\r\n%b]*+" % (q, between, between)
    field = rb"(?:%b|%b|)" % (quoted, plain)
    return re.compile(rb"%b(?:%b%b){%d}\r*+\n" % (field, between, field, columns - 1))


def split_record(text: str, layout: CsvLayout) -> list[str] | None:
    """Return the fields of one record with stray quotes kept; None if it is not one record.

    After the end of a quoted field, and inside a field that does not start with a quote, a quote is
    an ordinary character.

    Args:
      text: the record with its line end.
      layout: the layout of the header.

    Example:
      >>> split_record('3" pipe,"a"b\\n', CsvLayout(("x", "y"), ",", 0))
      ['3" pipe', 'ab']
    """
    # A following record parses as its own row only if no quote is left open.
    behind = layout.delimiter.join("0" * len(layout.columns))
    try:
        rows = list(csv.reader([text.lstrip("\r"), behind], **_dialect(layout)))
    except csv.Error:
        return None
    if [len(row) for row in rows] != [len(layout.columns)] * 2:
        return None
    return rows[0]


def _dialect(layout: CsvLayout) -> dict[str, Any]:
    """Return the marks of a layout for Python's reader and writer of CSV."""
    marks: dict[str, Any] = {"delimiter": layout.delimiter, "quotechar": layout.quote or None}
    return marks if layout.quote else {**marks, "quoting": csv.QUOTE_NONE}


def are_certain_records(
    text: bytes, bounds: npt.NDArray[np.int64], delimiter: str, quote: str = '"'
) -> npt.NDArray[np.bool_]:
    """Return which records any parser reads as one row each, alone or among others.

    That is certain if every quote is where RFC 4180 requires it: the 1st, 3rd, ... of a record at
    the start of a field or right after the previous quote (two quotes inside a field stand for
    one), the 2nd, 4th, ... at the end of a field or right before the next quote; and if the only
    line end outside quotes is the record's own. Other records may be valid, but need a check each.

    Args:
      text: n consecutive records.
      bounds: int64[n + 1]: start of each in `text`, and end of the last.
      delimiter: the character between fields.
      quote: the character around fields; empty for none.

    Returns:
      bool[n].
    """
    certain = np.ones(len(bounds) - 1, dtype=bool)
    quoted = bool(quote) and quote.encode() in text
    if not quoted and text.count(b"\r") == text.count(b"\r\n"):
        return certain
    padded = np.frombuffer(text + b"\n\n", dtype=np.uint8)
    here, after, second_after = padded[:-2], padded[1:-1], padded[2:]
    ends_field = (after == ord(delimiter)) | (after == _NEWLINE)
    ends_field |= (after == _RETURN) & (second_after == _NEWLINE)
    starts_field = np.zeros(len(here) + 1, dtype=bool)
    starts_field[1:] = here == ord(delimiter)
    starts_field[bounds] = True

    quotes = np.flatnonzero(here == ord(quote)) if quoted else np.zeros(0, dtype=np.int64)
    first = np.searchsorted(quotes, bounds)
    record = np.repeat(np.arange(len(certain)), np.diff(first))
    opens = (np.arange(len(quotes)) - first[record]) % 2 == 0
    adjoin = np.diff(quotes, prepend=-2, append=len(text) + 2) == 1
    in_place = np.where(opens, starts_field[quotes] | adjoin[:-1], ends_field[quotes] | adjoin[1:])
    certain[record[~in_place]] = False
    certain[np.diff(first) % 2 == 1] = False

    line_ends = np.flatnonzero((here == _NEWLINE) | (here == _RETURN))
    record = np.searchsorted(bounds, line_ends, side="right") - 1
    inside = (np.searchsorted(quotes, line_ends) - first[record]) % 2 == 1
    left = bounds[record + 1] - line_ends
    own = (left == 1) | ((left == 2) & (here[line_ends] == _RETURN))
    certain[record[~inside & ~own]] = False
    return certain

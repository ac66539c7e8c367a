"""Recognise single records in CSV text, whatever follows them."""

from __future__ import annotations

import csv
import re
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from beam_fraud.sources.lines import MAX_RECORD_BYTES
from beam_fraud.sources.segment import CsvLayout

# Arrow's parser has no field size limit; Python's has one of 128 KB, for the whole process.
csv.field_size_limit(MAX_RECORD_BYTES)

_NEWLINE, _RETURN, _QUOTE = b'\n\r"'


def is_csv_record(text: bytes, layout: CsvLayout) -> bool:
    """Return whether `text` (line end included) is exactly one record with the header's columns.

    By RFC 4180, a quoted field ends at a quote before a delimiter or the line end: a stray quote in
    a later line closes nothing.

    Example:
      >>> layout = CsvLayout(("shop", "amount"), ",", 0)
      >>> [is_csv_record(text, layout) for text in (b'"Joe\\nbar",3\\n', b'"Joe,1\\n3" pipe,2\\n')]
      [True, False]
    """
    return _record_pattern(layout.delimiter, len(layout.columns)).fullmatch(text) is not None


@lru_cache
def _record_pattern(delimiter: str, columns: int) -> re.Pattern[bytes]:
    between = re.escape(delimiter.encode())
    quoted = rb'"[^"]*+(?:""[^"]*+)*+"'
    plain = rb'[^"\r\n%b][^\r\n%b]*+' % (between, between)
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
        rows = list(csv.reader([text.lstrip("\r"), behind], delimiter=layout.delimiter))
    except csv.Error:
        return None
    if [len(row) for row in rows] != [len(layout.columns)] * 2:
        return None
    return rows[0]


def are_certain_records(
    text: bytes, bounds: npt.NDArray[np.int64], delimiter: str
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

    Returns:
      bool[n].
    """
    certain = np.ones(len(bounds) - 1, dtype=bool)
    if b'"' not in text and text.count(b"\r") == text.count(b"\r\n"):
        return certain
    padded = np.frombuffer(text + b"\n\n", dtype=np.uint8)
    here, after, second_after = padded[:-2], padded[1:-1], padded[2:]
    ends_field = (after == ord(delimiter)) | (after == _NEWLINE)
    ends_field |= (after == _RETURN) & (second_after == _NEWLINE)
    starts_field = np.zeros(len(here) + 1, dtype=bool)
    starts_field[1:] = here == ord(delimiter)
    starts_field[bounds] = True

    quotes = np.flatnonzero(here == _QUOTE)
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

"""Which stretches of CSV text are one record each, whatever stands beside them."""

from __future__ import annotations

import csv
import re
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from beam_fraud.sources.lines import MAX_RECORD_BYTES
from beam_fraud.sources.segment import CsvLayout

# Arrow's parser knows no limit to a field; this one has one, of 128 KB, for the whole process.
csv.field_size_limit(MAX_RECORD_BYTES)

_NEWLINE, _RETURN, _QUOTE = b'\n\r"'


def is_csv_record(text: bytes, layout: CsvLayout) -> bool:
    """Return whether `text` (line end included) is exactly one record with the header's columns.

    A quoted field ends, as RFC 4180 has it, at a quote before a delimiter or the line end: a stray
    quote in a later line closes nothing.

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
    """Return the fields of one record, its stray quotes taken as they stand; None if it is not one.

    Behind a quoted field's end, and inside a field that does not start with one, a quote is a
    character like any other.

    Args:
      text: the record with its line end.
      layout: what the header says.

    Example:
      >>> split_record('3" pipe,"a"b\\n', CsvLayout(("x", "y"), ",", 0))
      ['3" pipe', 'ab']
    """
    # A record behind it comes out as a row of its own only if no quote is left open.
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
    """Tell the records that a parser reads as one row each however many it is given at once.

    That is certain if every quote stands where RFC 4180 wants it: the 1st, 3rd, ... of a record at
    the start of a field or just behind the quote before (two quotes inside a field stand for one),
    the 2nd, 4th, ... at the end of a field or just before the next quote; and if no line end stands
    outside quotes but the record's own. Other records need not be wrong, but need a look each.

    Args:
      text: n records, one after the other.
      bounds: int64[n + 1]: where each starts in `text`, and where the last one ends.
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

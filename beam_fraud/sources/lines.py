"""Split text into blocks of records: lines, or CSV records that may span lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

#: Bytes read at a time.
CHUNK_BYTES = 8 << 20
#: Maximum bytes of a record; a longer one is a dead letter with its first `PREFIX_BYTES`.
MAX_RECORD_BYTES = 16 << 20
PREFIX_BYTES = 64 << 10
#: Bytes that a quoted field may span over line ends before its quote counts as stray.
MAX_QUOTED_BYTES = 64 << 10

_NEWLINE = 10
_RETURN = 13

Offsets = npt.NDArray[np.int64]
#: Type: test whether some lines are one complete record.
IsRecord = Callable[[bytes], bool]


@dataclass(frozen=True)
class RecordBlock:
    """Consecutive records of a file."""

    #: The text.
    data: bytes
    #: int64[n + 1]: start of each record in `data`, and end of the last.
    offsets: Offsets
    #: int64[n]: lines before each record, from the start of reading.
    lines: Offsets
    #: End of the block in bytes from the start of reading, and the lines before it.
    end: int
    end_line: int
    #: Whether its only record is too long and truncated.
    cut_off: bool = False

    def __len__(self) -> int:
        """Number of records."""
        return len(self.offsets) - 1

    def payload(self) -> pa.BinaryArray:
        """Return the records with their line ends: binary[n], over the same memory."""
        offsets = pa.py_buffer(self.offsets.astype(np.int32))
        return pa.Array.from_buffers(
            pa.binary(), len(self), [None, offsets, pa.py_buffer(self.data)]
        )


def read_records(
    read: Callable[[int], bytes], is_record: IsRecord | None = None, quote: str = '"'
) -> Iterator[RecordBlock]:
    """Split a stream into records at line ends; empty lines are no records.

    The result does not depend on the chunks of the stream.

    Args:
      read: returns at most so many bytes from the start of a record on, none at the end.
      is_record: if not None, a line with an odd number of quotes may begin a record of several
        lines, if this accepts them; else it is a record of its own.
      quote: the quote, an ASCII character.

    Yields:
      Blocks of one record or more, about `CHUNK_BYTES` each.
    """
    rest, base, line, beginning, ended = b"", 0, 0, b"", False
    while not ended:
        chunk = read(CHUNK_BYTES)
        ended = not chunk
        if beginning:
            line_end = chunk.find(b"\n") + 1
            base += line_end or len(chunk)
            if not line_end and not ended:
                continue
            yield _cut_off(beginning, base, line)
            chunk, beginning, line = chunk[line_end:], b"", line + 1
        data = rest + chunk
        if ended and data and not data.endswith(b"\n"):
            data += b"\n"
        records = _records(data, is_record, quote, ended)
        yield from _blocks(data, records, base, line)
        rest, base = data[records.used :], base + records.used
        line += records.lines_before(records.used)
        if len(rest) > MAX_RECORD_BYTES:
            base, beginning, rest = base + len(rest), rest[:PREFIX_BYTES], b""


@dataclass(frozen=True)
class _Records:
    """The records of some text."""

    #: int64[n]: starts and ends; empty lines may lie between.
    starts: Offsets
    ends: Offsets
    #: Bytes of the records and empty lines.
    used: int
    #: int64[l]: end of each line.
    line_ends: Offsets

    def lines_before(self, place: int) -> int:
        """Return the number of lines that end at or before a place."""
        return int(np.searchsorted(self.line_ends, place, side="right"))


def _blocks(data: bytes, records: _Records, base: int, line: int) -> Iterator[RecordBlock]:
    """Yield the records of `data`; each too long record is its own block."""
    starts, ends, first = records.starts, records.ends, 0
    for long in np.flatnonzero(ends - starts > MAX_RECORD_BYTES):
        yield from _block(data, records, slice(first, long), base, line)
        begin = int(starts[long])
        beginning = data[begin : begin + PREFIX_BYTES]
        yield _cut_off(beginning, base + int(ends[long]), line + records.lines_before(begin))
        first = int(long) + 1
    yield from _block(data, records, slice(first, None), base, line)


def _block(
    data: bytes, records: _Records, which: slice, base: int, line: int
) -> Iterator[RecordBlock]:
    starts, ends = records.starts[which], records.ends[which]
    if not len(starts):
        return
    last = int(ends[-1])
    lines = line + np.searchsorted(records.line_ends, starts, side="right")
    until = base + last, line + records.lines_before(last)
    if (starts[1:] == ends[:-1]).all():
        yield RecordBlock(data, np.append(starts, last), lines, *until)
        return
    # Remove empty lines between the records, so that the records are contiguous.
    lengths = ends - starts
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    text = np.frombuffer(data, dtype=np.uint8)[places].tobytes()
    yield RecordBlock(text, offsets, lines, *until)


def _cut_off(beginning: bytes, end: int, line: int) -> RecordBlock:
    offsets, lines = np.array([0, len(beginning)], dtype=np.int64), np.array([line], dtype=np.int64)
    return RecordBlock(beginning, offsets, lines, end, line + 1, cut_off=True)


def _records(data: bytes, is_record: IsRecord | None, quote: str, ended: bool) -> _Records:
    text = np.frombuffer(data, dtype=np.uint8)
    line_ends = ends = np.flatnonzero(text == _NEWLINE) + 1
    starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
    used = int(ends[-1]) if len(ends) else 0
    if is_record is not None and quote.encode() in data:
        starts, ends, used = _join_quoted(data, starts, ends, is_record, ord(quote), ended)
    lengths = ends - starts
    empty = (lengths == 1) | ((lengths == 2) & (text[starts] == _RETURN))
    return _Records(starts[~empty], ends[~empty], used, line_ends)


def _join_quoted(
    data: bytes,
    starts: Offsets,
    ends: Offsets,
    is_record: IsRecord,
    quote: int,
    ended: bool,
) -> tuple[Offsets, Offsets, int]:
    """Join lines into records where a quoted field reaches over line ends.

    Only lines with an odd number of quotes can open or close such a field, so only they need a
    check. A quote that nothing closes nearby affects its own line alone.
    """
    quotes = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == quote)
    counts = np.searchsorted(quotes, ends) - np.searchsorted(quotes, starts)
    odd = np.flatnonzero(counts % 2)
    keep = np.ones(len(starts), dtype=bool)
    position = 0
    while position < len(odd):
        first = int(odd[position])
        begin = int(starts[first])
        position += 1
        if is_record(data[begin : ends[first]]):
            continue
        reach = begin + MAX_QUOTED_BYTES
        if position < len(odd) and ends[odd[position]] <= reach:
            last = int(odd[position])
            if is_record(data[begin : ends[last]]):
                keep[first + 1 : last + 1] = False
                position += 1
        elif not ended and len(data) <= reach:
            # The closing quote may be in the next chunk: wait for it.
            return _joined(starts[:first], ends[:first], keep[:first], begin)
    return _joined(starts, ends, keep, int(ends[-1]) if len(ends) else 0)


def _joined(
    starts: Offsets, ends: Offsets, keep: npt.NDArray[np.bool_], used: int
) -> tuple[Offsets, Offsets, int]:
    joined_starts = starts[keep]
    return joined_starts, np.append(joined_starts[1:], used)[: len(joined_starts)], used

"""Read text files, CSV and JSON lines alike, to raw batches."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa

from beam_fraud.sources.csv_text import is_csv_record
from beam_fraud.sources.filesystem import TextStream
from beam_fraud.sources.lines import IsRecord, RecordBlock, read_records
from beam_fraud.sources.raw import DETAIL, LINE, PAYLOAD, POSITION, REASON, Origin, with_origin
from beam_fraud.sources.segment import InputFile, Segment

_RAW = pa.schema(
    [
        pa.field(POSITION, pa.int64()),
        pa.field(LINE, pa.int64()),
        pa.field(PAYLOAD, pa.binary()),
    ]
)
_RAW_CUT_OFF = _RAW.append(pa.field(REASON, pa.string())).append(pa.field(DETAIL, pa.string()))


def read_text(segment: Segment, block_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield raw batches of at most `block_rows` records.

    Raises:
      FraudError: the file cannot be read.
    """
    row, block = segment.first_row, 0
    end = None if segment.row_limit is None else row + segment.row_limit
    for records in _blocks(segment.file, segment.start, segment.stop):
        payload = records.payload()
        lines = pa.array(records.lines + segment.first_line + 1)
        for first in range(0, len(payload), block_rows):
            part = payload[first : first + block_rows]
            if end is not None:
                part = part[: end - row]
            if len(part):
                at = lines[first : first + len(part)]
                batch = _raw(part, at, row, segment, block, cut_off=records.cut_off)
                # The lines of an array's elements are not those of the file.
                yield batch.drop_columns([LINE]) if segment.file.format.array else batch
            row, block = row + len(part), block + 1
        if end is not None and row >= end:
            return


def split_text(file: InputFile, bytes_each: int | None) -> Iterator[Segment]:
    """Split a file into segments of about `bytes_each`; compressed and decoded files stay whole.

    The file is read once to find record starts, because row numbers must be known and a quoted
    field may contain line ends; that takes a fraction of the time of parsing.
    """
    begin, header = (file.csv.data_start, file.csv.header_lines) if file.csv else (0, 0)
    if bytes_each is None or file.format.sequential or file.size - begin <= bytes_each:
        yield Segment(file, begin, first_line=header)
        return
    start, first_row, first_line, row = begin, 0, header, 0
    for records in _blocks(file, begin, None):
        row += len(records)
        stop = begin + records.end
        if stop - start >= bytes_each:
            yield Segment(file, start, stop, first_row, first_line=first_line)
            start, first_row, first_line = stop, row, header + records.end_line
    if row > first_row:
        yield Segment(file, start, file.size, first_row, first_line=first_line)


def count_records(file: InputFile, at_most: int) -> int:
    """Return the number of records in a file, counted up to `at_most`."""
    count = 0
    for records in _blocks(file, file.csv.data_start if file.csv else 0, None):
        count += len(records)
        if count >= at_most:
            return at_most
    return count


def _blocks(file: InputFile, start: int, stop: int | None) -> Iterator[RecordBlock]:
    is_record: IsRecord | None = None
    quote = file.csv.quote if file.csv else ""
    if file.csv and quote:
        is_record = partial(is_csv_record, layout=file.csv)
    with TextStream(file.place, file.format, start, stop) as stream:
        yield from read_records(stream.read, is_record, quote)


def _raw(
    payload: pa.BinaryArray,
    lines: pa.Int64Array,
    first_row: int,
    segment: Segment,
    block: int,
    *,
    cut_off: bool,
) -> pa.RecordBatch:
    file = segment.file
    origin = Origin(
        file.name,
        file.format.name,
        block,
        segment.whole,
        file.csv,
        forms=file.forms,
        partitions=file.partitions,
    )
    positions = pa.array(np.arange(first_row, first_row + len(payload), dtype=np.int64))
    if not cut_off:
        described = with_origin(_RAW, origin)
        return pa.RecordBatch.from_arrays([positions, lines, payload], schema=described)
    arrays = [
        positions,
        lines,
        payload,
        pa.array(["too_long"] * len(payload)),
        pa.array(["record too long; its beginning is kept"] * len(payload)),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=with_origin(_RAW_CUT_OFF, origin))

"""The first and last event time of files, from their metadata."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.errors import FraudError
from beam_fraud.records.time_settlement import settled_notation
from beam_fraud.records.times import as_times
from beam_fraud.schema.schema import Schema
from beam_fraud.sources.columns import is_text
from beam_fraud.sources.filesystem import open_file
from beam_fraud.sources.segment import InputFile, TimeForms
from beam_fraud.storage.urls import Place


def event_span(files: Sequence[InputFile], schema: Schema) -> tuple[int, int] | None:
    """Return the earliest and the latest event time of Parquet files, without reading a row.

    Invalid rows count as well.

    Args:
      files: files of any format.
      schema: names the column of the event time.

    Returns:
      Microseconds of the epoch; None unless every file is Parquet with statistics of a time or
      number column.
    """
    column = schema.role("event_time")
    spans = [_span(file, column, schema) for file in files]
    known = [span for span in spans if span is not None]
    if not spans or len(known) < len(spans):
        return None
    return min(first for first, _ in known), max(last for _, last in known)


def _span(file: InputFile, column: str | None, schema: Schema) -> tuple[int, int] | None:
    if file.format.name != "parquet" or column is None or file.renamed:
        return None
    return parquet_span(file.place, schema, file.forms)


def parquet_span(place: Place, schema: Schema, forms: TimeForms = ()) -> tuple[int, int] | None:
    """Return the earliest and the latest event time of a Parquet file by its statistics.

    Args:
      place: the file.
      schema: names the column of the event time.
      forms: forms of its times, settled for the file.

    Returns:
      Microseconds of the epoch; None if the file cannot be read, or does not tell.
    """
    column = schema.roles["event_time"]
    try:
        with pq.ParquetFile(open_file(place)) as opened:
            ends = _ends(opened, column)
    except (pa.ArrowException, OSError, FraudError):
        # Reading the file will report the error.
        return None
    if ends is None:
        return None
    times = as_times(ends, settled_notation(schema.time, forms, column), schema.timezone)
    if (times.absent | times.unreadable | times.impossible).any():
        return None
    return int(times.micros.min()), int(times.micros.max())


def _ends(opened: pq.ParquetFile, column: str) -> pa.Array | None:
    """Return the minima and maxima of all row groups."""
    metadata, arrow = opened.metadata, opened.schema_arrow
    at = [i for i in range(metadata.num_columns) if metadata.schema.column(i).path == column]
    if len(at) != 1 or column not in arrow.names or is_text(arrow.field(column).type):
        return None
    ends: list[object] = []
    for group in range(metadata.num_row_groups):
        described = metadata.row_group(group)
        statistics = described.column(at[0]).statistics
        if not described.num_rows:
            continue
        if statistics is None or not statistics.has_min_max:
            return None
        ends += [statistics.min, statistics.max]
    return pa.array(ends, arrow.field(column).type) if ends else None

"""Read replayed dead letters as sources that keep the place of each record.

A replay file is an SQLite database of `operations.dead_letters`. Each source in it is read as its
own input, under its original name and positions, so that derived ids stay, and so does the place of
a record that becomes a dead letter again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from beam_fraud.records.envelopes import FRAME
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.csv import layout_of
from beam_fraud.sources.file_format import COLUMNAR, FileFormat, format_of
from beam_fraud.sources.partitions import partitions_of
from beam_fraud.sources.raw import PAYLOAD, POSITION, Origin, with_origin
from beam_fraud.sources.segment import CsvLayout, InputFile, Partitions, Segment
from beam_fraud.storage.database.sqlite_file import reading
from beam_fraud.storage.urls import Place

#: The tables. `header` is null where the records are JSON.
TABLES = """
    CREATE TABLE records (
        source TEXT NOT NULL, position INTEGER NOT NULL, payload BLOB NOT NULL,
        PRIMARY KEY (source, position)
    );
    CREATE TABLE sources (source TEXT PRIMARY KEY, header TEXT, rows INTEGER NOT NULL);
"""
#: Bytes of records in a batch; one batch may hold a single one that is longer.
_BATCH_BYTES = 8 << 20
_RAW = pa.schema([pa.field(POSITION, pa.int64()), pa.field(PAYLOAD, pa.binary())])


def is_csv_source(source: str) -> bool:
    """Return whether the records of a source are CSV; all others are JSON.

    Example:
      >>> is_csv_source("day.csv.gz"), is_csv_source("day.parquet"), is_csv_source("day.csv:0")
      (True, False, False)
    """
    form = format_of(source)
    return form is not None and form.name == "csv"


def find_replayed(place: Place, size: int, schema: Schema, *, labels: Labels) -> list[InputFile]:
    """Return the sources of a replay file by name.

    Raises:
      FraudError: it cannot be read, or the header of a source lacks a column.
    """
    with reading(Path(place.name)) as connection:
        rows = connection.execute("SELECT * FROM sources ORDER BY source").fetchall()
    return [
        InputFile(
            place,
            source,
            size,
            FileFormat("replay"),
            _layout(source, header, keys, schema, labels) if header is not None else None,
            count,
            partitions=keys,
        )
        for source, header, count in rows
        for keys in [_partitions(source, schema, labels)]
    ]


def _layout(
    source: str, header: str, partitions: Partitions, schema: Schema, labels: Labels
) -> CsvLayout:
    also = tuple(name for name, _ in partitions)
    return layout_of(source, header, schema, labels=labels, also=also)


def _partitions(source: str, schema: Schema, labels: Labels) -> Partitions:
    """Return what the path of a text file says; records of others hold it."""
    form = format_of(source)
    if form is None or form.name in COLUMNAR:
        return ()
    return partitions_of(source, schema.columns(labels=labels))


def raw_records(
    source: str, positions: pa.Array, payloads: pa.Array, header: str | None, schema: Schema
) -> pa.RecordBatch:
    """Return n records of a source as a raw batch (`sources.raw`).

    Args:
      source: its name in dead letters.
      positions: int64[n].
      payloads: binary[n], without line ends; null for what was not kept.
      header: the header of a source of CSV; None for JSON.
      schema: the schema.

    Raises:
      FraudError: the header lacks a column of the schema.
    """
    partitions = _partitions(source, schema, "ignored")
    layout = None if header is None else _layout(source, header, partitions, schema, "ignored")
    origin = Origin(
        source,
        "jsonl" if layout is None else "csv",
        csv=layout,
        partitions=partitions,
    )
    records = [
        one if one is not None and one.startswith(FRAME) else (one or b"") + b"\n"
        for one in payloads.to_pylist()
    ]
    return pa.RecordBatch.from_arrays(
        [positions, pa.array(records, pa.binary())], schema=with_origin(_RAW, origin)
    )


def read_replayed(segment: Segment, block_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield raw batches (`sources.raw`) of one source by position, records with line ends.

    Raises:
      FraudError: the file cannot be read.
    """
    file = segment.file
    left = -1 if segment.row_limit is None else segment.row_limit
    block = 0
    positions: list[int] = []
    payloads: list[bytes] = []

    def batch() -> pa.RecordBatch:
        form = "csv" if file.csv else "jsonl"
        origin = Origin(file.name, form, block, whole=True, csv=file.csv, forms=file.forms)
        origin = replace(origin, partitions=file.partitions)
        arrays = [pa.array(positions, pa.int64()), pa.array(payloads, pa.binary())]
        return pa.RecordBatch.from_arrays(arrays, schema=with_origin(_RAW, origin))

    with reading(Path(file.path)) as connection:
        query = "SELECT position, payload FROM records WHERE source = ? ORDER BY position LIMIT ?"
        size = 0
        for position, payload in connection.execute(query, (file.name, left)):
            positions.append(position)
            # A framed record has no line end.
            payloads.append(payload if payload.startswith(FRAME) else payload + b"\n")
            size += len(payload)
            if len(positions) == block_rows or size >= _BATCH_BYTES:
                yield batch()
                positions, payloads, size, block = [], [], 0, block + 1
        if positions:
            yield batch()

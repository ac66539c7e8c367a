"""Raw batches: rows in the form of the source, each with its position.

A raw batch is a record batch with the column `@position` (int64, from 0 in its source) and either
`@payload` (binary: the record as text with its line end) or the source's own columns. Messages of a
broker also have the column `@appended`. The metadata hold the name of the source, its format and
the number of the block in its segment. The `@` avoids clashes with the source's columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import pyarrow as pa

from beam_fraud.sources.segment import CsvLayout, Partitions, TimeForms

POSITION = "@position"
PAYLOAD = "@payload"
#: int64, no nulls: line of the file where the record begins, from 1; text files only.
LINE = "@line"
#: int64, no nulls: broker timestamp, milliseconds of the epoch. Only messages have it, up to
#: validation: decisions based on it must not depend on which messages arrived together.
APPENDED = "@appended"
#: string, no nulls: source of the row, in batches of several sources; optional.
SOURCE = "@source"
#: Reason why a record is a dead letter already, else null; optional.
REASON = "@reason"
#: Detail of that reason; present with `@reason`.
DETAIL = "@detail"

_KEY = b"beam_fraud.origin"
#: Encoded form of an origin of labels, searched because a stream checks every batch.
_LABELS = b'"content":"labels"'


@dataclass(frozen=True)
class Origin:
    """Origin of the rows of a batch."""

    #: Name of the source in dead letters and derived ids.
    source: str
    #: Name of the format (`sources.file_format`); messages of a broker are `jsonl` too.
    format: str
    #: Number of the block in its segment, from 0.
    block: int = 0
    #: Whether the segment is its whole source.
    whole: bool = True
    #: Only for CSV: the layout of the header.
    csv: CsvLayout | None = None
    #: Only in a stream: broker timestamp of the oldest message, or modification time of the file;
    #: milliseconds of the epoch.
    appended: int | None = None
    #: Forms of columns of times, settled for the file.
    forms: TimeForms = ()
    #: Columns that its path says: all of text, and those that a file of columns has itself.
    partitions: Partitions = ()
    #: Content of the records.
    content: Literal["transactions", "labels"] = "transactions"


def with_origin(schema: pa.Schema, origin: Origin) -> pa.Schema:
    """Return `schema` with `origin` in its metadata."""
    return schema.with_metadata({_KEY: msgspec.json.encode(origin)})


def origin_of(batch: pa.RecordBatch) -> Origin:
    """Return the origin of a batch.

    Raises:
      KeyError: the batch has none.
    """
    return msgspec.json.decode(batch.schema.metadata[_KEY], type=Origin)


def is_of_labels(batch: pa.RecordBatch) -> bool:
    """Return whether the rows are labels; False for a batch without origin."""
    metadata = batch.schema.metadata
    return bool(metadata and _LABELS in metadata.get(_KEY, b""))


def sources_of(batch: pa.RecordBatch) -> pa.StringArray:
    """Return the source of each row of a batch with an origin."""
    if SOURCE in batch.schema.names:
        return batch.column(SOURCE)
    return pa.repeat(pa.scalar(origin_of(batch).source), len(batch))

"""Raw batches: rows as the source holds them, each with its position.

A raw batch is a record batch with the column `@position` (int64, from 0 in its source) and either
`@payload` (binary: the record as text, its line end included) or the source's own columns. Messages
of a broker have the column `@appended` as well. The name of the source, its format and the number
of the block in its segment are in the metadata.
Names with an `@` keep out of the way of the source's columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import pyarrow as pa

from beam_fraud.sources.segment import CsvLayout

POSITION = "@position"
PAYLOAD = "@payload"
#: int64, no nulls: the line of the file that the record begins at, from 1; of text files alone.
LINE = "@line"
#: int64, no nulls: when the broker took the message, milliseconds of the epoch. Only messages have
#: it, up to validation: what is decided by it must not depend on which messages came together.
APPENDED = "@appended"
#: string, no nulls: the source of the row, in batches that hold rows of several; may be absent.
SOURCE = "@source"
#: Reason why a record is a dead letter already, null where it is fine; may be absent.
REASON = "@reason"
#: More about that reason; there if `@reason` is.
DETAIL = "@detail"

_KEY = b"beam_fraud.origin"
#: How an origin of labels is spelled: looked for, since a stream asks of every batch.
_LABELS = b'"content":"labels"'


@dataclass(frozen=True)
class Origin:
    """Where the rows of a batch come from."""

    #: Name of the source, as dead letters and made-up ids tell it.
    source: str
    #: `parquet`, `csv` or `jsonl`; messages of a broker are `jsonl` too.
    format: str
    #: Number of this block among those of its segment, from 0.
    block: int = 0
    #: Whether the segment is all of its source.
    whole: bool = True
    #: Only for CSV: what the header says.
    csv: CsvLayout | None = None
    #: Only in a stream: when the broker took the oldest of the messages, or when the file was last
    #: written to; milliseconds of the epoch.
    appended: int | None = None
    #: What the records are.
    content: Literal["transactions", "labels"] = "transactions"


def with_origin(schema: pa.Schema, origin: Origin) -> pa.Schema:
    """`schema` with `origin` in its metadata."""
    return schema.with_metadata({_KEY: msgspec.json.encode(origin)})


def origin_of(batch: pa.RecordBatch) -> Origin:
    """Return the origin of a batch.

    Raises:
      KeyError: the batch has none.
    """
    return msgspec.json.decode(batch.schema.metadata[_KEY], type=Origin)


def is_of_labels(batch: pa.RecordBatch) -> bool:
    """Whether the rows are labels rather than transactions; a batch without origin is not."""
    metadata = batch.schema.metadata
    return bool(metadata and _LABELS in metadata.get(_KEY, b""))


def sources_of(batch: pa.RecordBatch) -> pa.StringArray:
    """Return the source of each row of a batch, which has an origin."""
    if SOURCE in batch.schema.names:
        return batch.column(SOURCE)
    return pa.repeat(pa.scalar(origin_of(batch).source), len(batch))

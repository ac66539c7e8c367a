"""Muted rules in the metadata of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa

_KEY = b"muted"


class MutedRule(msgspec.Struct, frozen=True):
    """A rule without effect for the rest of a window."""

    #: Its name.
    rule: str
    #: Start of the window, event time in microseconds.
    window: int
    #: The shard that counted.
    shard: int
    #: Rows of the window that it fired on before it was muted.
    fired: int
    #: Rows of the window up to there.
    rows: int


def with_muted(batch: pa.RecordBatch, muted: Sequence[MutedRule]) -> pa.RecordBatch:
    """Return the batch with muted rules in its metadata."""
    if not muted:
        return batch
    metadata = {**(batch.schema.metadata or {}), _KEY: msgspec.json.encode(muted)}
    return batch.replace_schema_metadata(metadata)


def muted_in(batch: pa.RecordBatch) -> list[MutedRule]:
    """Return the muted rules of a batch."""
    data = (batch.schema.metadata or {}).get(_KEY)
    return [] if data is None else msgspec.json.decode(data, type=list[MutedRule])


def without_muted(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch without muted rules in its metadata."""
    metadata = {key: value for key, value in (batch.schema.metadata or {}).items() if key != _KEY}
    return batch.replace_schema_metadata(metadata or None)

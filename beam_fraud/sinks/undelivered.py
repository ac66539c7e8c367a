"""Flagged rows that their database did not take: kept on disk until it does."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.alert import AlertContext
from beam_fraud.errors import FraudError
from beam_fraud.sinks.folder import make_directory, reason_of
from beam_fraud.stages import SCORED

if TYPE_CHECKING:
    from beam_fraud.sinks.database import DatabaseSink

#: Keys of a file's metadata: where its rows should have gone, who is to be alerted of them, and
#: what alerts tell beside them.
_SINK, _CHANNELS, _CONTEXT = (b"beam_fraud.sink", b"beam_fraud.channels", b"beam_fraud.alerts")


def keep_undelivered(
    directory: Path,
    batch: pa.RecordBatch,
    channels: Sequence[str],
    sink: str,
    context: AlertContext | None = None,
) -> Path:
    """Write rows to a new Parquet file that survives a loss of power once this returns.

    Args:
      directory: where to; made if absent.
      batch: rows of the schema `stages.SCORED`.
      channels: whose alerts were to be queued with the rows.
      sink: where they should have gone, without secrets.
      context: what alerts tell beside their rows, if that is known.

    Raises:
      FraudError: the file system refuses.
    """
    make_directory(directory)
    path = directory / f"part-{uuid.uuid4().hex}.parquet"
    unfinished = path.with_name(path.name + ".unfinished")
    metadata = {_SINK: sink.encode(), _CHANNELS: json.dumps(list(channels)).encode()}
    metadata[_CONTEXT] = msgspec.json.encode(context)
    table = pa.Table.from_batches([batch]).replace_schema_metadata(metadata)
    try:
        with unfinished.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        _sync(directory)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise FraudError(f"{path}: cannot be written ({reason_of(error)})") from None
    return path


def undelivered_parts(directory: Path) -> list[Path]:
    """The files in `directory`, oldest first; those that a crash has left unfinished are none."""
    return sorted(directory.glob("part-*.parquet"), key=lambda path: path.stat().st_mtime)


def replay_undelivered(directory: Path, sink: DatabaseSink) -> int:
    """Write what waits in `directory` to a database, oldest first, and remove what it has taken.

    Alerts of the rows are queued with them, as they would have been. A file goes when the database
    has its rows; one that is replayed twice changes nothing.

    Args:
      directory: as `keep_undelivered` was given it; it may be absent.
      sink: a database; its tables are made if they are missing.

    Returns:
      How many rows were written.

    Raises:
      FraudError: a file cannot be read, or the database refuses: the files that are left stay.
    """
    parts = undelivered_parts(directory) if directory.is_dir() else []
    if not parts:
        return 0
    sink.prepare()
    rows = 0
    # Without a place for what it does not take: that is where it comes from.
    writer = sink.writer(spill=None)
    try:
        for part in parts:
            batch, channels, context = _read(part)
            writer.write(batch, channels, context)
            part.unlink()
            rows += len(batch)
    finally:
        writer.close()
    return rows


def _read(part: Path) -> tuple[pa.RecordBatch, list[str], AlertContext | None]:
    try:
        table = pq.read_table(part)
    except (OSError, pa.ArrowException) as error:
        why = reason_of(error) if isinstance(error, OSError) else error
        raise FraudError(f"{part}: cannot be read ({why}); move it away to go on") from None
    metadata = table.schema.metadata or {}
    if not table.schema.equals(SCORED) or _CHANNELS not in metadata:
        raise FraudError(f"{part}: holds no undelivered rows; move it away to go on")
    [batch] = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema=SCORED)]
    # Files of earlier versions have none.
    context = msgspec.json.decode(metadata.get(_CONTEXT, b"null"), type=AlertContext | None)
    return batch, json.loads(metadata[_CHANNELS]), context


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

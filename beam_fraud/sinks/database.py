"""Flagged transactions in a database, with their alerts in the same transaction."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import Connection

from beam_fraud.alerts.alert import AlertContext
from beam_fraud.alerts.queue import queue_alerts
from beam_fraud.errors import FraudError
from beam_fraud.schema.stages import SCORED
from beam_fraud.sinks.base import WriterSink
from beam_fraud.sinks.flagged_columns import flagged_columns
from beam_fraud.storage.atomic import whole_file
from beam_fraud.storage.database.connection import check_database, masked, prepare_database
from beam_fraud.storage.database.errors import LockedDatabaseError, PassingDatabaseError
from beam_fraud.storage.database.retry import (
    PATIENCE,
    PersistentConnection,
    give_up,
    patience_left,
    persistently,
    until_it_passes,
)
from beam_fraud.storage.database.tables import FLAGGED, RUNS
from beam_fraud.storage.database.upsert import Row, upsert, upsert_columns
from beam_fraud.storage.database.url import FILE_OPTIONS, DatabaseUrl, database_file, parse
from beam_fraud.storage.folder import make_directory, reason_of


def key_ranges(batch: pa.RecordBatch, key: str, parts: int) -> list[pa.RecordBatch]:
    """Cut rows where the key changes, in its order; rows of one key keep theirs.

    Args:
      batch: n rows.
      key: a column without nulls.
      parts: how many, nearly as large as each other where keys differ; at least 1.

    Returns:
      As many, or fewer if there are not so many keys; none for no rows.
    """
    ordered = batch.take(pc.sort_indices(batch.column(key)))
    keys = ordered.column(key)
    edges = [0]
    for part in range(1, parts):
        edge = max(edges[-1], len(keys) * part // parts)
        # A key that repeats goes whole into the part before.
        while 0 < edge < len(keys) and keys[edge] == keys[edge - 1]:
            edge += 1
        edges.append(edge)
    ends = [*edges[1:], len(keys)]
    ranges = [ordered.slice(start, end - start) for start, end in zip(edges, ends, strict=True)]
    return [rows for rows in ranges if len(rows)]


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
    metadata = {_SINK: sink.encode(), _CHANNELS: json.dumps(list(channels)).encode()}
    metadata[_CONTEXT] = msgspec.json.encode(context)
    table = pa.Table.from_batches([batch]).replace_schema_metadata(metadata)
    try:
        with whole_file(path) as file:
            pq.write_table(table, file, compression="zstd")
    except OSError as error:
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


_LOG = logging.getLogger(__name__)
#: Rows that always go in one transaction.
_TOGETHER = 4_000


@dataclass(frozen=True)
class DatabaseSink(WriterSink):
    """The table `flagged_transactions`: one row a transaction and model, the last write wins."""

    #: A database URL as SQLAlchemy reads it, with an absolute path for SQLite; or `env:NAME`.
    url: str
    #: For how many seconds a write is tried again while the database is down, slow, locked or full.
    patience: float = PATIENCE
    #: Directory of the rows that it has not taken by then; None to fail.
    spill: Path | None = None

    def __post_init__(self) -> None:
        """Keep the password out of what shows this."""
        object.__setattr__(self, "url", DatabaseUrl(self.url))

    @property
    def database(self) -> str:
        """The database itself."""
        return self.url

    @property
    def disk(self) -> Path | None:
        """The file of SQLite."""
        return database_file(self.url)

    @property
    def retention(self) -> str:
        """What a server keeps; SQLite's file is written again without the rows."""
        if self.disk is not None:
            return ""
        return (
            f"{self.describe()}: what PostgreSQL has deleted stays in its files until a vacuum, "
            "and in backups"
        )

    @property
    def worker_files(self) -> Mapping[str, str]:
        """Certificates and passwords of PostgreSQL; those of a URL in a variable stay there."""
        if not self.url.startswith("postgresql"):
            return {}
        query = parse(self.url).query
        files = {name: query.get(name) for name in FILE_OPTIONS}
        return {
            name: path for name, path in files.items() if isinstance(path, str) and path != "system"
        }

    def exists(self) -> bool:
        """Whether the file of SQLite is there; a server is asked when it is used."""
        return self.disk is None or self.disk.is_file()

    def waiting(self, seconds: float, spill: Path | None) -> DatabaseSink:
        """Return the sink that writes again for `seconds`, then leaves rows in `spill`."""
        return replace(self, patience=seconds, spill=spill)

    def streaming(self, *, here: bool) -> DatabaseSink:
        """Return the sink itself."""
        return self

    def check(self, *, going_on: bool = False) -> None:
        """Check that the database can be written to and that its tables are ours.

        A lock that stays for all of the patience is no reason to fail where rows may wait on disk.

        Raises:
          FraudError: as `check_database` says.
        """
        if going_on:
            until_it_passes(self.url, self._check, self.patience)
        else:
            self._check()

    def _check(self) -> None:
        with self._going_on_if_locked():
            check_database(self.url, patience_left(self.url, self.patience))

    def prepare(self) -> None:
        """Make the tables, or bring them to this version.

        Raises:
          FraudError: as `prepare_database` says.
        """
        prepare_database(self.url)

    def begin(self, run_id: str) -> None:
        """Make the tables, and note in `runs` that the run has started; a lock as in `check`."""
        started: Row = {
            "run_id": run_id,
            "state": "running",
            "started_at": datetime.now(UTC),
            "ended_at": None,
        }
        with self._going_on_if_locked():
            prepare_database(self.url, patience_left(self.url, self.patience))
            persistently(self.url, lambda c: upsert(c, RUNS, [started]), self.patience)

    def open(self, run_id: str) -> DatabaseWriter:
        """Return a connection for one worker."""
        return self.writer(self.spill)

    def writer(self, spill: Path | None) -> DatabaseWriter:
        """A connection; what the database does not take goes to `spill`, or fails if None."""
        return DatabaseWriter(self.url, self.patience, spill)

    def commit(self, run_id: str) -> None:
        """Note in `runs` that the run has succeeded."""
        self._end(run_id, "succeeded")

    def discard(self, run_id: str) -> None:
        """Note in `runs` that the run has failed; its rows stay, writing them again is harmless."""
        self._end(run_id, "failed")

    def describe(self) -> str:
        """Return the database URL without its password."""
        return masked(self.url)

    @contextmanager
    def _going_on_if_locked(self) -> Iterator[None]:
        try:
            yield
        except LockedDatabaseError as error:
            if self.spill is None:
                raise
            give_up(self.url)
            _LOG.warning("%s; until it is free flagged rows wait in %s", error, self.spill)

    def _end(self, run_id: str, state: str) -> None:
        change = (
            RUNS.update()
            .where(RUNS.c.run_id == run_id, RUNS.c.state == "running")
            .values(state=state, ended_at=datetime.now(UTC))
        )
        try:
            persistently(self.url, lambda c: c.execute(change), self.patience)
        except PassingDatabaseError as error:
            # Nothing but a note: what the run was for is elsewhere by now.
            _LOG.warning("run %s stays `running` in the table runs: %s", run_id, error)


class DatabaseWriter:
    """Connections to a database: one to a file, two to a server for what is large.

    A server makes the most of a batch's time up with indexes, on one processor a connection.
    """

    #: Rows that the database did not take, and that are on disk in place of that.
    undelivered: int

    def __init__(self, url: str, patience: float = PATIENCE, spill: Path | None = None) -> None:
        self.undelivered = 0
        self._url = url
        self._spill = spill
        self._connections = [PersistentConnection(url, patience)]
        if database_file(url) is None:
            self._connections.append(PersistentConnection(url, patience))

    def write(
        self,
        batch: pa.RecordBatch,
        channels: Sequence[str] = (),
        context: AlertContext | None = None,
    ) -> None:
        """Write flagged rows and queue their alerts: a row with its alerts, or neither.

        Up to `_TOGETHER` rows are one transaction.

        Args:
          batch: rows of the schema `stages.SCORED`.
          channels: names of channels that are alerted of each row, through the outbox of the same
            database; alerts that are in a delivery stay as they are.
          context: what alerts tell beside their rows, if that is known.

        Raises:
          FraudError: the database refuses, or it cannot be reached and there is no place on disk
            for the rows.
        """
        connections = self._connections if len(batch) > _TOGETHER else self._connections[:1]
        if len(connections) == 1:
            self.undelivered += self._write(connections[0], batch, channels, context)
            return
        # Both at once cannot wait for each other: they have no row in common.
        parts = key_ranges(batch, "transaction_id", len(connections))
        with ThreadPoolExecutor(len(connections)) as threads:
            kept = threads.map(self._write, connections, parts, repeat(channels), repeat(context))
            self.undelivered += sum(kept)

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    def _write(
        self,
        connection: PersistentConnection,
        batch: pa.RecordBatch,
        channels: Sequence[str],
        context: AlertContext | None,
    ) -> int:
        """Return how many of the rows went to the disk in place of the database."""
        flagged = flagged_columns(batch)

        def work(connection: Connection) -> None:
            upsert_columns(connection, FLAGGED, flagged)
            queue_alerts(connection, flagged, channels, context)

        try:
            connection.write(work)
        except PassingDatabaseError as error:
            if self._spill is None:
                raise
            part = keep_undelivered(self._spill, batch, channels, masked(self._url), context)
            _LOG.error("%d flagged rows wait in %s: %s", len(batch), part, error)
            return len(batch)
        return 0

"""The sink for a database: flagged rows, and their alerts in the same transaction."""

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
from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.stages import SCORED, SEEN, completed
from beam_fraud.sinks.base import WriterSink
from beam_fraud.sinks.flagged_columns import flagged_columns
from beam_fraud.storage.atomic import make_directory, whole_file
from beam_fraud.storage.database.connection import check_database, masked, prepare_database
from beam_fraud.storage.database.errors import LockedDatabaseError, PassingDatabaseError
from beam_fraud.storage.database.inbox import announce
from beam_fraud.storage.database.retry import (
    PATIENCE,
    PersistentConnection,
    give_up,
    patience_left,
    persistently,
    until_it_passes,
)
from beam_fraud.storage.database.tables import AUDITED, FLAGGED, RUNS
from beam_fraud.storage.database.upsert import Row, upsert, upsert_columns
from beam_fraud.storage.database.url import FILE_OPTIONS, DatabaseUrl, database_file, parse
from beam_fraud.wording import reason_of


def _audited(seen: pa.RecordBatch) -> pa.RecordBatch | None:
    """Return the audited rows of rows that people see, or None."""
    audited = seen.filter(pc.invert(seen.column("flagged")))
    return audited if len(audited) else None


def _write_audited(connection: Connection, audited: pa.RecordBatch) -> None:
    """Write audited rows; of a row that exists, keep the higher probability.

    A larger share chooses all transactions of a smaller: what two shares chose, the larger chose.
    """
    probabilities = audited.column("probability")
    for probability in pc.unique(probabilities).to_pylist():
        rows = audited.filter(pc.equal(probabilities, probability))
        columns = {**flagged_columns(rows), "probability": rows.column("probability")}
        lower = AUDITED.c.probability <= probability
        upsert_columns(connection, AUDITED, columns, where=lower)


def key_ranges(batch: pa.RecordBatch, key: str, parts: int) -> list[pa.RecordBatch]:
    """Divide rows by ranges of their key; rows of one key keep their order.

    Args:
      batch: n rows.
      key: a column without nulls.
      parts: number of parts, at least 1; of about equal size if keys differ.

    Returns:
      As many parts, or fewer if there are fewer keys; none for no rows.
    """
    ordered = batch.take(pc.sort_indices(batch.column(key)))
    keys = ordered.column(key)
    edges = [0]
    for part in range(1, parts):
        edge = max(edges[-1], len(keys) * part // parts)
        # All rows of a repeated key go into the part before.
        while 0 < edge < len(keys) and keys[edge] == keys[edge - 1]:
            edge += 1
        edges.append(edge)
    ends = [*edges[1:], len(keys)]
    ranges = [ordered.slice(start, end - start) for start, end in zip(edges, ends, strict=True)]
    return [rows for rows in ranges if len(rows)]


#: Keys of a file's metadata: the sink of its rows, the channels to alert, and the context of the
#: alerts.
_SINK, _CHANNELS, _CONTEXT = (b"beam_fraud.sink", b"beam_fraud.channels", b"beam_fraud.alerts")


def keep_undelivered(
    directory: Path,
    batch: pa.RecordBatch,
    channels: Sequence[str],
    sink: str,
    context: AlertContext | None = None,
) -> Path:
    """Write rows to a new Parquet file, durable once this returns.

    Args:
      directory: the directory; created if missing.
      batch: rows of the schema `stages.SCORED` or `stages.SEEN`.
      channels: names of channels whose alerts are to be queued with the rows.
      sink: the intended sink, without secrets.
      context: settings that alerts need beside their rows, or None.

    Raises:
      FraudError: the file system reports an error.
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
        raise FraudError(
            f"{path}: cannot be written ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
        ) from None
    return path


def undelivered_parts(directory: Path) -> list[Path]:
    """Return the files in `directory`, oldest first, without unfinished ones of a crash."""
    return sorted(directory.glob("part-*.parquet"), key=lambda path: path.stat().st_mtime)


def replay_undelivered(directory: Path, sink: DatabaseSink) -> int:
    """Write the files in `directory` to a database, oldest first, and remove them.

    Queue the alerts of the rows with them. A file is removed once the database has its rows;
    replaying one twice changes nothing.

    Args:
      directory: the directory of `keep_undelivered`; may be missing.
      sink: the database; missing tables are created.

    Returns:
      Number of rows written.

    Raises:
      FraudError: a file cannot be read or the database fails; the remaining files stay.
    """
    parts = undelivered_parts(directory) if directory.is_dir() else []
    if not parts:
        return 0
    sink.prepare()
    rows = 0
    # Without a spill directory: the rows come from there.
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
        raise FraudError(
            f"{part}: cannot be read ({why}); move it away to go on", Code.INPUT_DAMAGED
        ) from None
    metadata = table.schema.metadata or {}
    try:
        # Files of earlier versions lack some columns.
        seen = "probability" in table.schema.names
        table = completed(table, SEEN if seen else SCORED)
    except (KeyError, pa.ArrowException):
        metadata = {}
    if _CHANNELS not in metadata:
        raise FraudError(
            f"{part}: holds no undelivered rows; move it away to go on", Code.INPUT_DAMAGED
        )
    [batch] = table.combine_chunks().to_batches() or [
        pa.RecordBatch.from_pylist([], schema=table.schema)
    ]
    # Files of earlier versions have no context.
    context = msgspec.json.decode(metadata.get(_CONTEXT, b"null"), type=AlertContext | None)
    return batch, json.loads(metadata[_CHANNELS]), context


_LOG = logging.getLogger(__name__)
#: Maximum of rows that always share one transaction.
_TOGETHER = 4_000


@dataclass(frozen=True)
class DatabaseSink(WriterSink):
    """The table `flagged_transactions`: one row per transaction and model; the last write wins."""

    #: A database URL as SQLAlchemy reads it, with an absolute path for SQLite; or `env:NAME`.
    url: str
    #: Seconds of retries while the database is down, slow, locked or full.
    patience: float = PATIENCE
    #: Directory for rows not written by then; None to fail.
    spill: Path | None = None

    def __post_init__(self) -> None:
        """Mask the password in the representation."""
        object.__setattr__(self, "url", DatabaseUrl(self.url))

    @property
    def database(self) -> str:
        return self.url

    @property
    def disk(self) -> Path | None:
        return database_file(self.url)

    @property
    def retention(self) -> str:
        """A server keeps deleted rows in files; SQLite's file is rewritten without them."""
        if self.disk is not None:
            return ""
        return (
            f"{self.describe()}: what PostgreSQL has deleted stays in its files until a vacuum, "
            "and in backups"
        )

    @property
    def worker_files(self) -> Mapping[str, str]:
        """Certificate and password files of PostgreSQL; a URL in a variable keeps its own."""
        if not self.url.startswith("postgresql"):
            return {}
        query = parse(self.url).query
        files = {name: query.get(name) for name in FILE_OPTIONS}
        return {
            name: path for name, path in files.items() if isinstance(path, str) and path != "system"
        }

    def exists(self) -> bool:
        """Return whether the file of SQLite exists; True for a server, checked at its use."""
        return self.disk is None or self.disk.is_file()

    def waiting(self, seconds: float, spill: Path | None) -> DatabaseSink:
        """Return the sink that retries for `seconds`, then writes rows to `spill`."""
        return replace(self, patience=seconds, spill=spill)

    def streaming(self, *, here: bool) -> DatabaseSink:
        """Return the sink itself."""
        return self

    def check(self, *, going_on: bool = False) -> None:
        """Check that the database can be written to and that its tables are ours.

        A persistent lock is no error if rows can be spilled to disk.

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
        """Create the tables, or migrate them to this version.

        Raises:
          FraudError: as `prepare_database` says.
        """
        prepare_database(self.url)

    def begin(self, run_id: str) -> None:
        """Create the tables and record the run in `runs`; a lock counts as in `check`."""
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
        """Return a connection; rows that fail go to `spill`, or raise if it is None."""
        return DatabaseWriter(self.url, self.patience, spill)

    def commit(self, run_id: str) -> None:
        """Record in `runs` that the run has succeeded."""
        self._end(run_id, "succeeded")

    def discard(self, run_id: str) -> None:
        """Record in `runs` that the run has failed; its rows stay, as rewriting is harmless."""
        self._end(run_id, "failed")

    def describe(self) -> str:
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
            # Only a record: the results of the run are elsewhere by now.
            _LOG.warning("run %s stays `running` in the table runs: %s", run_id, error)


class DatabaseWriter:
    """Connections to a database: one to a file, two to a server for large batches.

    A server spends most of a batch's time on indexes, with one processor per connection.
    """

    #: Rows spilled to disk because the database failed.
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
        """Write flagged rows and queue their alerts, each row with its alerts or not at all.

        Up to `_TOGETHER` rows share one transaction. Audited rows go to a table of their own and
        raise no alerts.

        Args:
          batch: flagged rows of the schema `stages.SCORED`; or of `stages.SEEN`, those that are not
            flagged are audited.
          channels: names of channels to alert of each row, through the outbox of the same database;
            alerts in a delivery stay unchanged.
          context: settings that alerts need beside their rows, or None.

        Raises:
          FraudError: the database refuses the rows, or cannot be reached and there is no directory
            to spill to.
        """
        connections = self._connections if len(batch) > _TOGETHER else self._connections[:1]
        if len(connections) == 1:
            self.undelivered += self._write(connections[0], batch, channels, context)
            return
        # The two connections cannot deadlock: they have no row in common.
        parts = key_ranges(batch, "transaction_id", len(connections))
        with ThreadPoolExecutor(len(connections)) as threads:
            counts = threads.map(self._write, connections, parts, repeat(channels), repeat(context))
            self.undelivered += sum(counts)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def _write(
        self,
        connection: PersistentConnection,
        batch: pa.RecordBatch,
        channels: Sequence[str],
        context: AlertContext | None,
    ) -> int:
        """Return the number of rows spilled to disk."""
        flagged, audited = batch, None
        if "probability" in batch.schema.names:
            flagged, audited = batch.filter(batch.column("flagged")), _audited(batch)
        columns = flagged_columns(flagged)

        def work(connection: Connection) -> None:
            if len(flagged):
                upsert_columns(connection, FLAGGED, columns)
                announce(connection, columns["transaction_id"])
                queue_alerts(connection, columns, channels, context)
            if audited is not None:
                _write_audited(connection, audited)

        try:
            connection.write(work)
        except PassingDatabaseError as error:
            if self._spill is None:
                raise
            part = keep_undelivered(self._spill, batch, channels, masked(self._url), context)
            _LOG.error("%d flagged rows wait in %s: %s", len(batch), part, error)
            return len(batch)
        return 0

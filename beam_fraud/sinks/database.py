"""Flagged transactions in a database, with their alerts in the same transaction."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from sqlalchemy import Connection

from beam_fraud.alert import AlertContext
from beam_fraud.sinks.connection import check_database, masked, prepare_database
from beam_fraud.sinks.database_errors import LockedDatabaseError, PassingDatabaseError
from beam_fraud.sinks.database_url import DatabaseUrl, database_file
from beam_fraud.sinks.flagged_columns import flagged_columns
from beam_fraud.sinks.key_ranges import key_ranges
from beam_fraud.sinks.persistence import (
    PATIENCE,
    PersistentConnection,
    give_up,
    patience_left,
    persistently,
)
from beam_fraud.sinks.queued_alerts import queue_alerts
from beam_fraud.sinks.tables import FLAGGED, RUNS
from beam_fraud.sinks.undelivered import keep_undelivered
from beam_fraud.sinks.upsert import Row, upsert, upsert_columns

_LOG = logging.getLogger(__name__)
#: Rows that always go in one transaction.
_TOGETHER = 4_000


@dataclass(frozen=True)
class DatabaseSink:
    """The table `flagged_transactions`: one row a transaction and model, the last write wins."""

    #: A database URL as SQLAlchemy reads it, with an absolute path for SQLite; or `env:NAME`.
    url: str
    #: For how many seconds a write is tried again while the database is down, slow, locked or full.
    patience: float = PATIENCE
    #: Directory of the rows that it has not taken by then; None to fail.
    spill: Path | None = None

    #: No directory.
    archive: ClassVar[None] = None

    def __post_init__(self) -> None:
        """Keep the password out of what shows this."""
        object.__setattr__(self, "url", DatabaseUrl(self.url))

    @property
    def database(self) -> str:
        """The database itself."""
        return self.url

    def streaming(self, *, here: bool) -> DatabaseSink:
        """The sink itself."""
        return self

    def check(self) -> None:
        """See that the database can be written to and that its tables are ours.

        A lock that stays for all of the patience is no reason to fail where rows may wait on disk.

        Raises:
          FraudError: as `check_database` says.
        """
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
        """A connection for one worker."""
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
        """The database URL without its password."""
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
        """How many of the rows went to the disk in place of the database."""
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

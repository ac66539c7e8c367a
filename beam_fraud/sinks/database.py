"""Flagged transactions in a database, with their alerts in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

import msgspec
import pyarrow as pa

from beam_fraud.alert import Alert
from beam_fraud.sinks.connection import (
    check_database,
    engine,
    masked,
    one_line_errors,
    prepare_database,
    writing,
)
from beam_fraud.sinks.queued_alerts import queue_alerts
from beam_fraud.sinks.tables import FLAGGED, RUNS
from beam_fraud.sinks.upsert import Row, upsert

_COLUMNS = [column.name for column in FLAGGED.columns]


@dataclass(frozen=True)
class DatabaseSink:
    """The table `flagged_transactions`: one row a transaction and model, the last write wins."""

    #: A database URL as SQLAlchemy reads it, with an absolute path for SQLite.
    url: str
    #: No directory.
    archive: ClassVar[None] = None

    @property
    def database(self) -> str:
        """The database itself."""
        return self.url

    def streaming(self, *, here: bool) -> DatabaseSink:
        """The sink itself."""
        return self

    def check(self) -> None:
        """See that the database can be written to and that its tables are ours.

        Raises:
          FraudError: as `check_database` says.
        """
        check_database(self.url)

    def begin(self, run_id: str) -> None:
        """Make the tables, and note in `runs` that the run has started."""
        prepare_database(self.url)
        started: Row = {
            "run_id": run_id,
            "state": "running",
            "started_at": datetime.now(UTC),
            "ended_at": None,
        }
        with writing(self.url) as connection:
            upsert(connection, RUNS, [started])

    def open(self, run_id: str) -> DatabaseWriter:
        """A connection for one worker."""
        return DatabaseWriter(self.url)

    def commit(self, run_id: str) -> None:
        """Note in `runs` that the run has succeeded."""
        self._end(run_id, "succeeded")

    def discard(self, run_id: str) -> None:
        """Note in `runs` that the run has failed; its rows stay, writing them again is harmless."""
        self._end(run_id, "failed")

    def describe(self) -> str:
        """The database URL without its password."""
        return masked(self.url)

    def _end(self, run_id: str, state: str) -> None:
        change = (
            RUNS.update()
            .where(RUNS.c.run_id == run_id, RUNS.c.state == "running")
            .values(state=state, ended_at=datetime.now(UTC))
        )
        with writing(self.url) as connection:
            connection.execute(change)


class DatabaseWriter:
    """One connection; every call of `write` is one transaction."""

    def __init__(self, url: str) -> None:
        self._url = url
        with one_line_errors(url):
            self._connection = engine(url).connect()

    def write(self, batch: pa.RecordBatch, alerts: Sequence[Alert] = ()) -> None:
        """Write flagged rows and queue their alerts, all of it or nothing.

        Args:
          batch: rows of the schema `stages.SCORED`.
          alerts: to the outbox of the same database; those already sent stay as they are.

        Raises:
          FraudError: the database refuses or cannot be reached.
        """
        with writing(self._url, self._connection):
            upsert(self._connection, FLAGGED, flagged_rows(batch))
            queue_alerts(self._connection, alerts)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def flagged_rows(batch: pa.RecordBatch) -> list[Row]:
    """Rows of the table `flagged_transactions`, lists as JSON text, for rows of `SCORED`."""
    rows: list[Row] = batch.select(_COLUMNS).to_pylist()
    for row in rows:
        row["rules"] = msgspec.json.encode(row["rules"] or []).decode()
        row["reasons"] = msgspec.json.encode(row["reasons"] or []).decode()
    return rows

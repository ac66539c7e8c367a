"""Deliver what a server has answered to the places that a stream writes to."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from beam_fraud.alerts.alert import AlertContext
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.queue import Notice, queue_flagged, queue_notices
from beam_fraud.errors import Code, FraudError
from beam_fraud.serve.backlog import Deliver
from beam_fraud.serve.state import DEAD, FLAGGED, LABELS, scored_of
from beam_fraud.sinks.base import SinkWriter, WriterSink
from beam_fraud.sinks.records import write_dead_letters, write_labels
from beam_fraud.storage.database.connection import prepare_database
from beam_fraud.storage.database.retry import persistently

_LOG = logging.getLogger(__name__)
#: Seconds of a delivery's own retries: the backlog repeats it.
PATIENCE = 1.0


@dataclass(frozen=True)
class Places:
    """The places of a server's results beside its archive."""

    #: Sink of flagged rows that is written to by a connection, or None.
    sink: WriterSink | None
    #: Outbox of a server whose alerts are in no database sink, or None.
    outbox: Outbox | None
    #: Database of labels, or None.
    labels: str | None
    #: Names of the channels of alerts.
    channels: tuple[str, ...]
    #: Settings that alerts need beside their rows.
    context: AlertContext | None
    #: This process, in a database.
    run_id: str

    @property
    def alerts(self) -> str | None:
        """Database of the alerts, or None without channels."""
        if not self.channels:
            return None
        if self.outbox is not None:
            return self.outbox.url
        return None if self.sink is None else self.sink.database


class Deliveries:
    """Writes to the places; each delivery runs in the thread of its backlog.

    A server that is away is no error: its tables are created when it is back.
    """

    def __init__(self, places: Places) -> None:
        """Keep the places; nothing is written yet."""
        self._places = places
        self._begun = False
        self._writer: SinkWriter | None = None
        self._prepared = set[str]()

    @property
    def by_backlog(self) -> dict[str, Deliver]:
        """Backlog to its delivery."""
        places, deliveries = self._places, dict[str, Deliver]()
        if places.sink is not None or places.outbox is not None:
            deliveries[FLAGGED] = self._flagged
        if places.sink is not None and places.sink.database is not None:
            deliveries[DEAD] = partial(self._dead, places.sink.database)
        if places.labels is not None:
            deliveries[LABELS] = partial(self._labels, places.labels)
        return deliveries

    def notify(self, notices: Sequence[Notice]) -> None:
        """Queue notices for every channel; a failure is logged."""
        database = self._places.alerts
        if database is None:
            return
        try:
            self._prepare(database)
            persistently(
                database,
                lambda connection: queue_notices(connection, self._places.channels, notices),
                PATIENCE,
            )
        except FraudError as error:
            _LOG.warning("no notice was sent: %s", error)

    def close(self) -> None:
        """Close the sink, and record the end of this process there."""
        if self._writer is not None:
            self._writer.close()
        if self._places.sink is not None and self._begun:
            self._places.sink.commit(self._places.run_id)

    def _flagged(self, rows: pa.RecordBatch) -> None:
        places, scored = self._places, scored_of(rows)
        if places.sink is not None:
            if not self._begun:
                places.sink.begin(places.run_id)
                self._begun = True
            if self._writer is None:
                self._writer = places.sink.open(places.run_id)
            channels = places.channels if places.outbox is None else ()
            self._writer.write(scored, channels, places.context)
        if places.outbox is not None:
            self._prepare(places.outbox.url)
            queue_flagged(places.outbox.url, scored, places.channels, places.context)

    def _dead(self, database: str, rows: pa.RecordBatch) -> None:
        self._prepare(database)
        if not write_dead_letters(database, rows, PATIENCE):
            raise FraudError("dead letters: the database is away", Code.DATABASE_SILENT)

    def _labels(self, database: str, rows: pa.RecordBatch) -> None:
        self._prepare(database)
        write_labels(database, rows)

    def _prepare(self, database: str) -> None:
        if database not in self._prepared:
            prepare_database(database, PATIENCE)
            self._prepared.add(database)

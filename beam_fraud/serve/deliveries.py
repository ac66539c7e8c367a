"""Deliver what a server has answered to the places that a stream writes to."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from beam_fraud.alerts.alert import AlertContext
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.queue import Notice, queue_flagged, queue_notices
from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.stages import SEEN, completed
from beam_fraud.serve.answered_rows import scored_of
from beam_fraud.serve.backlog import Deliver
from beam_fraud.serve.state import AUDITED, DEAD, FLAGGED, LABELS, LINKED
from beam_fraud.sinks.base import SinkWriter, WriterSink
from beam_fraud.sinks.dead_letters import write_dead_letters
from beam_fraud.sinks.labels import write_labels
from beam_fraud.sinks.linked_values import write_linked_values
from beam_fraud.storage.database.connection import prepare_database
from beam_fraud.storage.database.retry import persistently

_LOG = logging.getLogger(__name__)
#: Seconds of a delivery's own retries: the backlog repeats it.
PATIENCE = 1.0
#: Models and rule sets whose settings are kept for rows that wait.
_CONTEXTS = 100


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
    #: Settings that alerts need beside their rows, of the model and rules at the start.
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
        #: Settings of alerts, and the time from which rows were decided by them, microseconds.
        self._contexts = deque([(0, places.context)], maxlen=_CONTEXTS)
        self._begun = False
        # Two backlogs share the sink.
        self._writing = threading.Lock()
        self._writer: SinkWriter | None = None
        self._prepared = set[str]()

    @property
    def by_backlog(self) -> dict[str, Deliver]:
        """Backlog to its delivery."""
        places, deliveries = self._places, dict[str, Deliver]()
        if places.sink is not None or places.outbox is not None:
            deliveries[FLAGGED] = self._flagged
        if places.sink is not None and places.sink.database is not None:
            # Also without an audit: rows of an earlier one may wait.
            deliveries[AUDITED] = self._audited
            deliveries[DEAD] = partial(self._dead, places.sink.database)
            # Also without declared columns: values of an earlier start may wait.
            deliveries[LINKED] = partial(self._linked, places.sink.database)
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

    def decide_by(self, context: AlertContext, since: int) -> None:
        """Describe later rows by another model and other rules.

        Args:
          context: their settings.
          since: time from which rows were decided by them, microseconds of the epoch.
        """
        self._contexts.append((since, context))

    def close(self) -> None:
        """Close the sink, and record the end of this process there."""
        if self._writer is not None:
            self._writer.close()
        if self._places.sink is not None and self._begun:
            self._places.sink.commit(self._places.run_id)

    def _flagged(self, rows: pa.RecordBatch) -> None:
        contexts = list(self._contexts)
        times = np.asarray(rows.column("features_as_of").view(pa.int64()))
        since = np.array([since for since, _ in contexts[1:]], dtype=np.int64)
        # Rows that waited longer than the settings are kept are described by the oldest ones.
        numbers = np.searchsorted(since, times, side="right")
        for number in np.unique(numbers).tolist():
            part = rows.filter(pa.array(numbers == number))
            self._write(scored_of(part), contexts[number][1])

    def _audited(self, rows: pa.RecordBatch) -> None:
        self._write(completed(rows, SEEN), None)

    def _write(self, scored: pa.RecordBatch, context: AlertContext | None) -> None:
        places = self._places
        if places.sink is not None:
            with self._writing:
                if not self._begun:
                    places.sink.begin(places.run_id)
                    self._begun = True
                if self._writer is None:
                    self._writer = places.sink.open(places.run_id)
                channels = places.channels if places.outbox is None else ()
                self._writer.write(scored, channels, context)
        if places.outbox is not None:
            self._prepare(places.outbox.url)
            queue_flagged(places.outbox.url, scored, places.channels, context)

    def _dead(self, database: str, rows: pa.RecordBatch) -> None:
        self._prepare(database)
        if not write_dead_letters(database, rows, PATIENCE):
            raise FraudError("dead letters: the database is away", Code.DATABASE_SILENT)

    def _linked(self, database: str, values: pa.RecordBatch) -> None:
        self._prepare(database)
        write_linked_values(database, values, PATIENCE)

    def _labels(self, database: str, rows: pa.RecordBatch) -> None:
        self._prepare(database)
        write_labels(database, rows)

    def _prepare(self, database: str) -> None:
        if database not in self._prepared:
            prepare_database(database, PATIENCE)
            self._prepared.add(database)

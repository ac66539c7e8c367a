"""Write dead letters, labels and values that link cases to database tables."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.decisions.linked_values import LinkedColumns
from beam_fraud.sinks.dead_letters import write_dead_letters
from beam_fraud.sinks.labels import write_labels
from beam_fraud.sinks.linked_values import write_linked_values
from beam_fraud.storage.database.errors import PassingDatabaseError
from beam_fraud.storage.database.retry import PATIENCE
from beam_fraud.transforms.accept import Accepted

_LOG = logging.getLogger(__name__)
#: Rows per write, unless the bundle ends before.
_ROWS_AT_A_TIME = 10_000


@dataclass
class WriteDeadLettersTable(beam.PTransform):
    """Write dead letters to the table `dead_letters`; idempotent."""

    #: The database, prepared by `storage.database.connection.prepare_database`.
    url: str
    #: For how many seconds a write is repeated while it is down.
    patience: float = PATIENCE

    def expand(self, dead: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """Write dead letters."""
        return dead | beam.ParDo(_WriteDeadLetters(self.url, self.patience))


class _WriteTogether(beam.DoFn):
    """Write many rows at a time."""

    def __init__(self, url: str, patience: float) -> None:
        self._url = url
        self._patience = patience

    def start_bundle(self) -> None:
        self._waiting: list[pa.RecordBatch] = []

    def process(self, rows: pa.RecordBatch) -> None:
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= _ROWS_AT_A_TIME:
            self._write()

    def finish_bundle(self) -> None:
        if self._waiting:
            self._write()

    def _write(self) -> None:
        batches = pa.Table.from_batches(self._waiting).combine_chunks().to_batches()
        self._waiting = []
        for batch in batches:
            self.write(batch)

    def write(self, batch: pa.RecordBatch) -> None:
        raise NotImplementedError


class _WriteDeadLetters(_WriteTogether):
    def write(self, batch: pa.RecordBatch) -> None:
        write_dead_letters(self._url, batch, self._patience)


class _WriteLinkedValues(_WriteTogether):
    def write(self, batch: pa.RecordBatch) -> None:
        try:
            write_linked_values(self._url, batch, self._patience)
        except PassingDatabaseError as error:
            # No decision rests on them, and a run must not end for them.
            _LOG.warning("%d values that link cases are lost: %s", len(batch), error)


@dataclass
class WriteLinkedValues(beam.PTransform):
    """Write the values of declared columns to the table `linked_values`; idempotent."""

    #: The database, prepared by `storage.database.connection.prepare_database`.
    url: str
    #: The columns, and which rows' values are written.
    linked: LinkedColumns
    #: For how many seconds a write is repeated while it is down.
    patience: float = PATIENCE
    #: The output of `Accept`, for which values wait; or None.
    accepted: beam.PCollection[bool] | None = None

    def expand(self, explained: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """Choose, and write many at a time."""
        seen = explained | "Seen" >> beam.Map(self.linked.seen).with_output_types(pa.RecordBatch)
        if self.accepted is not None:
            seen |= "Accepted" >> Accepted(self.accepted)
        return seen | "Write" >> beam.ParDo(_WriteLinkedValues(self.url, self.patience))


@dataclass
class WriteLabels(beam.PTransform):
    """Write labels to the table `labels`, one transaction per batch; idempotent."""

    #: The database, prepared by `storage.database.connection.prepare_database`.
    url: str

    def expand(self, labels: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """Write labels."""
        return labels | beam.ParDo(_WriteLabels(self.url))


class _WriteLabels(beam.DoFn):
    def __init__(self, url: str) -> None:
        self._url = url

    def process(self, labels: pa.RecordBatch) -> None:
        if len(labels):
            write_labels(self._url, labels)

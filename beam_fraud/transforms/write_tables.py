"""Write dead letters and labels to database tables."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.sinks.dead_letters import write_dead_letters
from beam_fraud.sinks.labels import write_labels
from beam_fraud.storage.database.retry import PATIENCE

#: Dead letters per write, unless the bundle ends before.
_ROWS_AT_A_TIME = 10_000


@dataclass
class WriteDeadLettersTable(beam.PTransform):
    """Write dead letters to the table `dead_letters`; idempotent."""

    #: The database, prepared by `storage.database.connection.prepare_database`.
    url: str
    #: For how many seconds a write is repeated while it is down.
    patience: float = PATIENCE

    def expand(self, dead: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """One step."""
        return dead | beam.ParDo(_WriteDeadLetters(self.url, self.patience))


class _WriteDeadLetters(beam.DoFn):
    def __init__(self, url: str, patience: float) -> None:
        self._url = url
        self._patience = patience

    def start_bundle(self) -> None:
        self._waiting: list[pa.RecordBatch] = []

    def process(self, dead: pa.RecordBatch) -> None:
        self._waiting.append(dead)
        if sum(map(len, self._waiting)) >= _ROWS_AT_A_TIME:
            self._write()

    def finish_bundle(self) -> None:
        if self._waiting:
            self._write()

    def _write(self) -> None:
        batches = pa.Table.from_batches(self._waiting).combine_chunks().to_batches()
        self._waiting = []
        for batch in batches:
            write_dead_letters(self._url, batch, self._patience)


@dataclass
class WriteLabels(beam.PTransform):
    """Write labels to the table `labels`, one transaction per batch; idempotent."""

    #: The database, prepared by `storage.database.connection.prepare_database`.
    url: str

    def expand(self, labels: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """One step."""
        return labels | beam.ParDo(_WriteLabels(self.url))


class _WriteLabels(beam.DoFn):
    def __init__(self, url: str) -> None:
        self._url = url

    def process(self, labels: pa.RecordBatch) -> None:
        if len(labels):
            write_labels(self._url, labels)

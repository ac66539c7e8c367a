"""Dead letters to the table of a database, beside their Parquet files."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.sinks.dead_letters import write_dead_letters

#: Dead letters that are written together, unless the bundle ends before.
_ROWS_AT_A_TIME = 10_000


@dataclass
class WriteDeadLettersTable(beam.PTransform):
    """Dead letters to the table `dead_letters`; what is done again changes nothing."""

    #: The database.
    sink: DatabaseSink

    def expand(self, dead: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """One step."""
        return dead | beam.ParDo(_WriteDeadLetters(self.sink.url, self.sink.patience))


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

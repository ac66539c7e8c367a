"""Flagged transactions to their sink, with their alerts where both go to one database."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.alerts.alert import AlertContext
from beam_fraud.sinks.base import FlaggedSink, SinkWriter, TransformSink, WriterSink
from beam_fraud.sinks.database import DatabaseWriter
from beam_fraud.transforms.counters import ROWS_UNDELIVERED, count

#: Flagged rows that are written together, unless the bundle ends before.
_ROWS_AT_A_TIME = 10_000


@dataclass
class WriteFlagged(beam.PTransform):
    """Flagged rows to a sink: by its own transform, or one connection a bundle of the runner."""

    #: Where they go.
    sink: FlaggedSink
    #: The run.
    run_id: str
    #: Names of channels whose alerts are queued in the same transaction, if the sink is a database.
    channels: tuple[str, ...] = ()
    #: What these alerts tell beside their rows.
    context: AlertContext | None = None

    def expand(self, flagged: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """One step, or the sink's own transform."""
        if isinstance(self.sink, TransformSink):
            return flagged | self.sink.transform(self.run_id)
        assert isinstance(self.sink, WriterSink)
        return flagged | beam.ParDo(
            _WriteFlagged(self.sink, self.run_id, self.channels, self.context)
        )


class _WriteFlagged(beam.DoFn):
    """Writes many rows at a time: every transaction of a database waits for the disk."""

    def __init__(
        self,
        sink: WriterSink,
        run_id: str,
        channels: tuple[str, ...],
        context: AlertContext | None,
    ) -> None:
        self._sink = sink
        self._run_id = run_id
        self._channels = channels
        self._context = context

    def start_bundle(self) -> None:
        self._writer: SinkWriter | None = None
        self._waiting: list[pa.RecordBatch] = []

    def process(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        if sum(map(len, self._waiting)) >= _ROWS_AT_A_TIME:
            self._write()

    def finish_bundle(self) -> None:
        if self._waiting:
            self._write()
        if self._writer is not None:
            self._writer.close()
        if isinstance(self._writer, DatabaseWriter):
            count(ROWS_UNDELIVERED, self._writer.undelivered)

    def _write(self) -> None:
        batches = pa.Table.from_batches(self._waiting).combine_chunks().to_batches()
        self._waiting = []
        if self._writer is None:
            self._writer = self._sink.open(self._run_id)
        for batch in batches:
            if isinstance(self._writer, DatabaseWriter):
                self._writer.write(batch, self._channels, self._context)
            else:
                self._writer.write(batch)

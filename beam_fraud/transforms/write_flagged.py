"""Write flagged transactions to their sink, with alerts if both use one database."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

import apache_beam as beam
import pyarrow as pa

from beam_fraud.errors import Code, UsageError
from beam_fraud.monitoring.counters import ROWS_UNDELIVERED
from beam_fraud.sinks.base import FlaggedSink, SinkWriter, WriterSink
from beam_fraud.sinks.url import parse_sink
from beam_fraud.storage.database.connection import prepare_database
from beam_fraud.transforms.alert_contexts import Context, WaitingRows, context_of
from beam_fraud.transforms.counters import count
from beam_fraud.transforms.decide import Flagged
from beam_fraud.transforms.records import GatherScored, Record

#: Flagged rows per write, unless the bundle ends before.
_ROWS_AT_A_TIME = 10_000


@dataclass
class WriteFlagged(beam.PTransform):
    """Write flagged rows by the sink's own transform, or by one connection per bundle.

    In your own pipeline, apply `WriteFlagged("postgresql://USER@HOST/DATABASE")` after `Score`: it
    accepts scored rows, dicts or batches, creates the tables and writes the flagged rows. Writes
    are idempotent. The command passes the sink itself, and flagged batches.

    Raises, when it is applied:
      UsageError: the URL names no database.
    """

    #: The URL of a database, or a sink that the launcher begins and commits.
    sink: FlaggedSink | str
    #: The run.
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    #: Names of channels to queue alerts for in the same transaction, if the sink is a database.
    channels: tuple[str, ...] = ()
    #: Settings that these alerts need beside their rows.
    context: Context = None

    def expand(self, flagged: beam.PCollection[Record]) -> beam.PCollection[None]:
        """Add one step, or the sink's own transform."""
        if isinstance(self.sink, str):
            return self._to_database(flagged, self.sink)
        return flagged | self.sink.transform(self.run_id, self._connected)

    def _connected(self, sink: WriterSink, *after: beam.pvalue.AsSideInput) -> beam.PTransform:
        write = _WriteFlagged(sink, self.run_id, self.channels, self.context)
        return beam.ParDo(write, *after)

    def _to_database(self, scored: beam.PCollection[Record], url: str) -> beam.PCollection[None]:
        sink = parse_sink(url)
        if sink.database is None:
            raise UsageError(
                f"WriteFlagged: {sink.describe()} is no database; write rows there by the "
                "transforms of Beam, such as WriteToParquet or WriteToBigQuery",
                Code.SINK_UNSUITED,
            )
        databases = scored.pipeline | "Sink" >> beam.Create([sink.database], reshuffle=False)
        begun = databases | "Tables" >> beam.Map(_prepare).with_output_types(bool)
        flagged = scored | "Batches" >> GatherScored() | "Flagged" >> Flagged()
        after = beam.pvalue.AsSingleton(begun)
        write = sink.transform(self.run_id, lambda writers: self._connected(writers, after))
        return flagged | "Write" >> write


def _prepare(database: str) -> bool:
    prepare_database(database)
    return True


class _WriteFlagged(beam.DoFn):
    """Write many rows at a time: every transaction of a database waits for the disk."""

    def __init__(
        self,
        sink: WriterSink,
        run_id: str,
        channels: tuple[str, ...],
        context: Context,
    ) -> None:
        self._sink = sink
        self._run_id = run_id
        self._channels = channels
        self._context = context

    def setup(self) -> None:
        self._context_of = context_of(self._context)

    def start_bundle(self) -> None:
        self._writer: SinkWriter | None = None
        self._waiting = WaitingRows()

    def process(self, batch: pa.RecordBatch, begun: bool = True) -> None:
        self._waiting.add(batch, self._context_of(batch))
        if self._waiting.rows >= _ROWS_AT_A_TIME:
            self._write()

    def finish_bundle(self) -> None:
        self._write()
        if self._writer is not None:
            self._writer.close()
            count(ROWS_UNDELIVERED, self._writer.undelivered)

    def _write(self) -> None:
        for batch, context in self._waiting.joined():
            if self._writer is None:
                self._writer = self._sink.open(self._run_id)
            self._writer.write(batch, self._channels, context)

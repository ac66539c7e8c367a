"""Flagged transactions to the outbox, from which alerts are sent."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.alert import AlertContext
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.sinks.queue_flagged import queue_flagged

#: Flagged rows whose alerts are queued together, unless the bundle ends before.
_ROWS_AT_A_TIME = 10_000


@dataclass
class Alert(beam.PTransform):
    """Flagged rows to alerts in an outbox: one a transaction and channel, whatever is replayed."""

    #: Where they wait until the run has succeeded.
    outbox: Outbox
    #: Names of the channels.
    channels: tuple[str, ...]
    #: What alerts tell beside their rows.
    context: AlertContext | None = None

    def expand(self, flagged: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """One step."""
        return flagged | beam.ParDo(_Alert(self.outbox, self.channels, self.context))


class _Alert(beam.DoFn):
    def __init__(
        self, outbox: Outbox, channels: tuple[str, ...], context: AlertContext | None
    ) -> None:
        self._outbox = outbox
        self._channels = channels
        self._context = context

    def start_bundle(self) -> None:
        self._waiting: list[pa.RecordBatch] = []

    def process(self, flagged: pa.RecordBatch) -> None:
        self._waiting.append(flagged)
        if sum(map(len, self._waiting)) >= _ROWS_AT_A_TIME:
            self._queue()

    def finish_bundle(self) -> None:
        if self._waiting:
            self._queue()

    def _queue(self) -> None:
        batches = pa.Table.from_batches(self._waiting).combine_chunks().to_batches()
        self._waiting = []
        for batch in batches:
            queue_flagged(self._outbox.url, batch, self._channels, self._context)

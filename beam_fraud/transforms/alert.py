"""Flagged transactions to the outbox, from which alerts are sent."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.alert import Alert as AlertOf
from beam_fraud.alert import alerts_of
from beam_fraud.alerts.outbox import Outbox

#: Alerts that are queued together, unless the bundle ends before.
_AT_A_TIME = 10_000


@dataclass
class Alert(beam.PTransform):
    """Flagged rows to alerts in an outbox: one a transaction and channel, whatever is replayed."""

    #: Where they wait until the run has succeeded.
    outbox: Outbox
    #: Names of the channels.
    channels: tuple[str, ...]

    def expand(self, flagged: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """One step."""
        return flagged | beam.ParDo(_Alert(self.outbox, self.channels))


class _Alert(beam.DoFn):
    def __init__(self, outbox: Outbox, channels: tuple[str, ...]) -> None:
        self._outbox = outbox
        self._channels = channels

    def start_bundle(self) -> None:
        self._waiting: list[AlertOf] = []

    def process(self, flagged: pa.RecordBatch) -> None:
        self._waiting += alerts_of(flagged, self._channels)
        if len(self._waiting) >= _AT_A_TIME:
            self._queue()

    def finish_bundle(self) -> None:
        if self._waiting:
            self._queue()

    def _queue(self) -> None:
        self._outbox.queue(self._waiting)
        self._waiting = []

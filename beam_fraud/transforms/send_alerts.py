"""Send alerts from any pipeline."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam

from beam_fraud.alerts.alert import AlertContext
from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.channels.url import parse_channel
from beam_fraud.alerts.dispatch import PATIENCE, send_pending
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.bundle import Bundle, load_bundle
from beam_fraud.sinks.url import parse_sink
from beam_fraud.transforms.alert import QueueAlerts
from beam_fraud.transforms.decide import Flagged
from beam_fraud.transforms.records import GatherScored, Record


@dataclass
class SendAlerts(beam.PTransform):
    """Queue alerts of scored rows in a database, and send them once all are queued.

    Accepts scored rows, dicts or batches, and alerts of the flagged ones: one alert per transaction
    and channel; a replay adds none. The collection must be bounded.

    Raises, when it is applied:
      UsageError: a URL is invalid, or the collection is unbounded.
    """

    #: URLs of the channels, in the form of `--alert`.
    channels: Sequence[str]
    #: URL of the outbox's database, such as `sqlite:///alerts.db`.
    outbox: str
    #: The bundle that scored: alerts use its time zone and thresholds; None for UTC and no
    #: thresholds.
    model: Bundle | str | Path | None = None
    #: Seconds of retries for a failing channel.
    patience: float = PATIENCE

    def expand(self, scored: beam.PCollection[Record]) -> beam.PCollection[int]:
        """Queue all, then send; emit the number of sent alerts."""
        if not scored.is_bounded:
            raise UsageError(
                "SendAlerts: the collection is unbounded, but alerts are sent at its end; use "
                "`beam-fraud stream --alert`",
                Code.COLLECTION_UNSUITED,
            )
        database = parse_sink(self.outbox).database
        if database is None:
            raise UsageError(
                "SendAlerts: the outbox is no database; give sqlite:///FILE", Code.SINK_UNSUITED
            )
        urls, outbox = tuple(self.channels), Outbox(database)
        names = tuple(channel.name for channel in _channels(urls))
        prepared = (
            scored.pipeline
            | "Outbox" >> beam.Create([outbox], reshuffle=False)
            | "Tables" >> beam.Map(_prepare).with_output_types(bool)
        )
        flagged = scored | "Batches" >> GatherScored() | "Flagged" >> Flagged()
        queued = flagged | "Queue" >> beam.ParDo(
            QueueAlerts(outbox, names, self._context()), beam.pvalue.AsSingleton(prepared)
        ).with_output_types(int)
        return (
            queued
            | "All" >> beam.CombineGlobally(sum).with_output_types(int)
            | "Send" >> beam.Map(_send, outbox, urls, self.patience).with_output_types(int)
        )

    def _context(self) -> AlertContext | None:
        if self.model is None:
            return None
        bundle = self.model if isinstance(self.model, Bundle) else load_bundle(self.model)
        thresholds = bundle.thresholds
        return AlertContext(bundle.schema.timezone, thresholds.review, thresholds.decline)


def _channels(urls: Sequence[str]) -> list[Channel]:
    return [parse_channel(url, console=sys.stderr) for url in urls]


def _prepare(outbox: Outbox) -> bool:
    outbox.begin()
    return True


def _send(queued: int, outbox: Outbox, urls: Sequence[str], patience: float) -> int:
    report = send_pending(outbox, _channels(urls), patience)
    if report.failed:
        raise FraudError(
            f"{report.failed:,} alerts were not sent and wait in {outbox.describe()}: "
            "`beam-fraud alerts resend` sends them",
            Code.ALERTS_UNSENT,
        )
    return report.sent

"""Queue alerts of flagged transactions in the outbox."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import apache_beam as beam
import pyarrow as pa

from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.queue import Notice, queue_flagged, queue_notices
from beam_fraud.monitoring.counters import RULES_MUTED
from beam_fraud.schema.duration import HOUR
from beam_fraud.schema.event_time import moment_of
from beam_fraud.state.rule_share import MutedRule, muted_in, without_muted
from beam_fraud.storage.database.errors import PassingDatabaseError
from beam_fraud.storage.database.retry import persistently
from beam_fraud.transforms.alert_contexts import Context, WaitingRows, context_of
from beam_fraud.transforms.counters import count

#: Flagged rows whose alerts share a transaction, unless the bundle ends before.
_ROWS_AT_A_TIME = 10_000


@dataclass
class Alert(beam.PTransform):
    """Queue one alert per flagged transaction and channel; a replay adds none."""

    #: URL of the outbox, where they wait until the run has succeeded.
    outbox: Outbox
    #: Names of the channels.
    channels: tuple[str, ...]
    #: Settings that alerts need beside their rows.
    context: Context = None

    def expand(self, flagged: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """Queue the alerts."""
        return flagged | beam.ParDo(QueueAlerts(self.outbox, self.channels, self.context))


class QueueAlerts(beam.DoFn):
    """Queue alerts of flagged batches, many rows in one transaction."""

    def __init__(self, outbox: Outbox, channels: tuple[str, ...], context: Context) -> None:
        self._outbox = outbox
        self._channels = channels
        self._context = context

    def setup(self) -> None:
        """Find the contexts."""
        self._context_of = context_of(self._context)

    def start_bundle(self) -> None:
        self._waiting = WaitingRows()

    def process(self, flagged: pa.RecordBatch, prepared: bool = True) -> None:
        """Buffer a batch until there are enough rows; `prepared` makes it wait for the tables."""
        self._waiting.add(flagged, self._context_of(flagged))
        if self._waiting.rows >= _ROWS_AT_A_TIME:
            self._queue()

    def finish_bundle(self) -> None:
        """Queue the remaining alerts."""
        self._queue()

    def _queue(self) -> None:
        for batch, context in self._waiting.joined():
            queue_flagged(self._outbox.url, batch, self._channels, context)


_LOG = logging.getLogger(__name__)


@dataclass
class Notices(beam.PTransform):
    """Log, count and notify of muted rules; pass batches on unchanged."""

    #: URL of the outbox, or None without channels.
    database: str | None
    #: Names of the channels.
    channels: tuple[str, ...]
    #: Share of rows from which a rule is muted.
    limit: float
    #: Number of shards that count.
    shards: int = 1

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Queue the notices and pass the batches on."""
        step = _Notices(self.database, self.channels, self.limit, self.shards)
        return batches | beam.ParDo(step).with_output_types(pa.RecordBatch)


class WaitingNotices:
    """Notices that the database has not accepted yet.

    Args:
      database: URL of the outbox, or None without channels.
      channels: names of the channels.
    """

    def __init__(self, database: str | None, channels: tuple[str, ...]) -> None:
        self._database = database
        self._channels = channels
        self._waiting: list[Notice] = []

    def add(self, notices: Sequence[Notice]) -> None:
        """Add notices for `queue`."""
        self._waiting += notices

    def queue(self, what: str) -> None:
        """Queue the notices for every channel, or keep them while the database is away.

        Call it before the state that records their reason is committed: a replay queues the same
        notices, which changes nothing.

        Args:
          what: what they are about, for a message.
        """
        if self._waiting and self._database is not None:
            waiting, channels = self._waiting, self._channels
            try:
                persistently(self._database, lambda c: queue_notices(c, channels, waiting))
            except PassingDatabaseError as error:
                # Scoring continues; each bundle retries.
                _LOG.warning("no notice was sent yet of %d %s: %s", len(waiting), what, error)
                return
        self._waiting = []


class _Notices(beam.DoFn):
    def __init__(
        self, database: str | None, channels: tuple[str, ...], limit: float, shards: int
    ) -> None:
        self._notices = WaitingNotices(database, channels)
        self._limit = limit
        self._shards = shards

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        muted = muted_in(batch)
        if not muted:
            yield batch
            return
        notices = [notice_of(rule, self._limit, self._shards) for rule in muted]
        for notice in notices:
            _LOG.warning("%s", notice.text)
        count(RULES_MUTED, len(muted))
        self._notices.add(notices)
        yield without_muted(batch)

    def finish_bundle(self) -> None:
        self._notices.queue("muted rules")


def notice_of(muted: MutedRule, limit: float, shards: int = 1) -> Notice:
    """Return the notice of a muted rule.

    Example:
      >>> muted = MutedRule("large", window=1_704_103_200_000_000, shard=0, fired=37, rows=120)
      >>> print(notice_of(muted, 0.2).text)
      Rule 'large' fired on 37 of 120 transactions of 2024-01-01 10:00 to 11:00 UTC, which is more \
than 20 %: it has no effect for the rest of that hour. See what is wrong with it.
    """
    start = moment_of(muted.window)
    end = start + timedelta(microseconds=HOUR)
    where = f" in part {muted.shard + 1} of {shards} of the stream" if shards > 1 else ""
    text = (
        f"Rule {muted.rule!r} fired on {muted.fired:,} of {muted.rows:,} transactions of "
        f"{start:%Y-%m-%d %H:%M} to {end:%H:%M} UTC{where}, which is more than {100 * limit:g} %: "
        "it has no effect for the rest of that hour. See what is wrong with it."
    )
    return Notice((muted.rule, str(muted.window), str(muted.shard)), text)

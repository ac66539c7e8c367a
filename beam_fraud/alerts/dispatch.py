"""Send what waits in the outbox."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from beam_fraud.alerts.channel import Channel
from beam_fraud.alerts.message import Message
from beam_fraud.alerts.outbox import Counts, Outbox
from beam_fraud.errors import FraudError

_LOG = logging.getLogger(__name__)
#: Alerts that are read, sent and marked at a time.
PAGE = 500


@dataclass(frozen=True)
class ChannelReport:
    """What became of the alerts of one channel."""

    #: Sent now.
    sent: int
    #: Sent before this dispatch.
    already_sent: int
    #: Still waiting, because the channel failed.
    failed: int
    #: Why it failed, in one line; None if it did not.
    error: str | None = None


@dataclass(frozen=True)
class DispatchReport:
    """What became of the alerts, channel by channel."""

    #: Name of a channel to its part.
    channels: dict[str, ChannelReport]

    @property
    def sent(self) -> int:
        """Alerts sent now, over all channels."""
        return sum(report.sent for report in self.channels.values())

    @property
    def already_sent(self) -> int:
        """Alerts sent before, over all channels."""
        return sum(report.already_sent for report in self.channels.values())

    @property
    def failed(self) -> int:
        """Alerts that still wait because their channel failed."""
        return sum(report.failed for report in self.channels.values())


def send_pending(outbox: Outbox, channels: Sequence[Channel]) -> DispatchReport:
    """Send every waiting alert of `channels`, by event time.

    An alert is marked after it was sent: one that was sent when the process died goes out again,
    none is lost. A channel that fails keeps its alerts waiting and does not stop the others.

    Raises:
      FraudError: the outbox cannot be reached.
    """
    before = outbox.counts()
    reports: dict[str, ChannelReport] = {}
    for channel in channels:
        if channel.name not in reports:
            counts = before.get(channel.name, Counts())
            reports[channel.name] = _send_channel(outbox, channel, counts)
    return DispatchReport(reports)


def _send_channel(outbox: Outbox, channel: Channel, before: Counts) -> ChannelReport:
    sent = 0
    while page := outbox.pending(channel.name, PAGE):
        try:
            channel.send(
                Message(page[0].alert_id, "alerts", datetime.now(UTC), tuple(page), len(page))
            )
        except (FraudError, OSError) as error:
            said = " ".join(str(error).split())
            failed = outbox.counts().get(channel.name, Counts()).pending
            _LOG.error("%d alerts for %s still to be sent: %s", failed, channel.describe(), said)
            return ChannelReport(sent, before.sent, failed, said)
        outbox.mark_sent([alert.alert_id for alert in page], datetime.now(UTC))
        sent += len(page)
    return ChannelReport(sent, before.sent, failed=0)

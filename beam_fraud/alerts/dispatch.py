"""Send what waits in the outbox, after a run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.outbox import Counts, Outbox
from beam_fraud.alerts.policy import Clock
from beam_fraud.alerts.sender import ChannelSender

_LOG = logging.getLogger(__name__)
#: Seconds for which a channel that fails is tried again.
PATIENCE = 60.0


@dataclass(frozen=True)
class ChannelReport:
    """What became of the alerts of one channel."""

    #: Sent now.
    sent: int
    #: Sent before this dispatch.
    already_sent: int
    #: Not sent: still waiting because the channel failed, or given up now.
    failed: int
    #: Why it failed, in one line; None if it did not.
    error: str | None = None
    #: Waiting because their account or merchant is snoozed.
    snoozed: int = 0
    #: Those of `sent` that digests stood for.
    digested: int = 0


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
        """Alerts that were not sent because their channel failed or refused them."""
        return sum(report.failed for report in self.channels.values())

    @property
    def snoozed(self) -> int:
        """Alerts that wait for the end of a snooze, over all channels."""
        return sum(report.snoozed for report in self.channels.values())

    @property
    def digested(self) -> int:
        """Alerts sent now that digests stood for, over all channels."""
        return sum(report.digested for report in self.channels.values())


def send_pending(
    outbox: Outbox,
    channels: Sequence[Channel],
    patience: float = PATIENCE,
    *,
    only: Collection[str] | None = None,
    clock: Clock | None = None,
) -> DispatchReport:
    """Send every waiting alert of `channels` that nobody has snoozed, each channel on its own.

    Nobody comes back soon: a channel that people read gets one message, by default; others get the
    alerts of an account together whatever its span, and what a bound on messages holds back goes
    out as one digest. A channel that fails keeps its alerts waiting.

    Args:
      outbox: what waits.
      channels: where to; of two with one name the first.
      patience: seconds for which a channel that fails is tried again.
      only: ids of the deliveries that are meant; all that waits if None.
      clock: what time it is.

    Raises:
      FraudError: the outbox cannot be reached.
    """
    clock = Clock() if clock is None else clock
    before = outbox.counts(clock.now())
    named = {channel.name: channel for channel in reversed(channels)}
    senders = [ChannelSender(outbox.url, channel, clock) for channel in named.values()]
    _flush(senders, patience, only)
    after = outbox.counts(clock.now())
    unsent = None if only is None else outbox.unsent(only)
    reports = {}
    for sender in reversed(senders):
        name, state = sender.channel.name, sender.state
        was, is_now = before.get(name, Counts()), after.get(name, Counts())
        failed = is_now.pending + state.given_up if unsent is None else unsent.get(name, 0)
        reports[name] = ChannelReport(
            state.sent, was.sent, failed, state.error, is_now.snoozed, state.digested
        )
        if failed:
            _tell(sender, failed)
    return DispatchReport(reports)


def _flush(senders: Sequence[ChannelSender], patience: float, only: Collection[str] | None) -> None:
    """Every channel in a thread of its own: one that stalls holds up no other."""
    stop, broken = threading.Event(), list[BaseException]()

    def flush(sender: ChannelSender) -> None:
        try:
            sender.flush(patience, only, stop, batch=True)
        except BaseException as error:
            broken.append(error)

    threads = [
        threading.Thread(target=flush, args=(sender,), name="alerts", daemon=True)
        for sender in senders
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        stop.set()
    if broken:
        raise broken[0]


def _tell(sender: ChannelSender, failed: int) -> None:
    state = sender.state
    why = state.error or ("another process sends them" if state.elsewhere else "refused")
    _LOG.error("%d alerts for %s still to be sent: %s", failed, sender.channel.describe(), why)

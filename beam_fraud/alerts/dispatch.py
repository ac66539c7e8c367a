"""Send the pending alerts of the outbox after a run."""

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
#: Seconds of retries for a failing channel.
PATIENCE = 60.0


@dataclass(frozen=True)
class ChannelReport:
    """Outcome of the alerts of one channel."""

    #: Sent by this dispatch.
    sent: int
    #: Sent before this dispatch.
    already_sent: int
    #: Not sent: the channel failed and they stay pending, or the sender gave them up.
    failed: int
    #: Reason of the failure in one line; None without a failure.
    error: str | None = None
    #: Pending because their account or merchant is snoozed.
    snoozed: int = 0
    #: Alerts among `sent` that a digest summarised.
    digested: int = 0


@dataclass(frozen=True)
class DispatchReport:
    """Outcome of the alerts by channel."""

    #: Name of a channel to its report.
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
        """Alerts not sent because their channel failed or refused them."""
        return sum(report.failed for report in self.channels.values())

    @property
    def snoozed(self) -> int:
        """Snoozed alerts, over all channels."""
        return sum(report.snoozed for report in self.channels.values())

    @property
    def digested(self) -> int:
        """Alerts that digests summarised in this dispatch, over all channels."""
        return sum(report.digested for report in self.channels.values())


def send_pending(
    outbox: Outbox,
    channels: Sequence[Channel],
    patience: float = PATIENCE,
    *,
    only: Collection[str] | None = None,
    clock: Clock | None = None,
) -> DispatchReport:
    """Send every pending, unsnoozed alert of `channels`, each channel in its own thread.

    No dispatch follows soon, so spans do not delay alerts. By default, a channel for people gets
    one message. Other channels get the alerts of an account together and one digest of the alerts
    beyond the limit on messages. The alerts of a failing channel stay pending.

    Args:
      outbox: the pending alerts.
      channels: the channels; of two with one name, the first sends.
      patience: seconds of retries for a failing channel.
      only: ids of deliveries to send; None for all.
      clock: the clock; None for the system's clock.

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
    """Flush each channel in its own thread: a stalled channel delays no other."""
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
    _LOG.error("%d alerts for %s were not sent: %s", failed, sender.channel.describe(), why)

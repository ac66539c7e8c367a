"""Send the pending alerts of the outbox: after a run, or beside a stream."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from beam_fraud.alerts.channels.channel import Channel, ChannelState
from beam_fraud.alerts.outbox import Counts, Outbox
from beam_fraud.alerts.policy import Clock
from beam_fraud.alerts.sender import ChannelSender
from beam_fraud.errors import FraudError

_LOG = logging.getLogger(__name__)
#: Seconds of retries for a failing channel.
PATIENCE = 60.0
#: Seconds between two polls of the outbox: an alert waits half of them on average.
_LOOK_EVERY = 0.02
#: Maximum share of the time that polls take if many alerts are pending, up to a pause in seconds.
_SHARE_OF_LOOKS, _LOOK_AT_LEAST_EVERY = 0.3, 1.0


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


class Dispatcher:
    """Send the alerts of the outbox to its channels while it runs.

    Each channel has its own thread, so a failing or stalled channel does not delay the others. Of
    several processes with one outbox, one sends for a channel; when that process ends, another
    takes over. The dispatcher shares only the database with the processes that queue alerts.
    """

    def __init__(self, outbox: Outbox, channels: Sequence[Channel]) -> None:
        """Prepare a dispatcher of `outbox`; of two channels with one name, the first sends."""
        self._outbox = outbox
        self._clock = Clock()
        named = {channel.name: channel for channel in reversed(channels)}
        self._senders = {
            name: ChannelSender(outbox.url, channel, self._clock) for name, channel in named.items()
        }
        self._done = threading.Event()

    @property
    def states(self) -> dict[str, ChannelState]:
        """Name of a channel to its state."""
        return {name: sender.state for name, sender in self._senders.items()}

    @property
    def sent(self) -> int:
        """Alerts sent so far, over all channels."""
        return sum(state.sent for state in self.states.values())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send while the body runs; at the end, try each pending alert once."""
        threads = [
            threading.Thread(target=self._run, args=(sender,), name="alerts", daemon=True)
            for sender in self._senders.values()
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._done.set()
            for thread in threads:
                thread.join()

    def waiting(self) -> dict[str, int]:
        """Return the number of pending, unsnoozed alerts per channel.

        Raises:
          FraudError: the outbox cannot be reached.
        """
        return {name: counts.pending for name, counts in self._counts().items()}

    def snoozed(self) -> dict[str, int]:
        """Return the number of snoozed alerts per channel.

        Raises:
          FraudError: the outbox cannot be reached.
        """
        return {name: counts.snoozed for name, counts in self._counts().items()}

    def _counts(self) -> dict[str, Counts]:
        counts = self._outbox.counts(self._clock.now())
        return {name: counts.get(name, Counts()) for name in self._senders}

    def _run(self, sender: ChannelSender) -> None:
        pause = _LOOK_EVERY
        while not self._done.wait(pause):
            started, sent = self._clock.elapsed(), sender.state.sent
            try:
                sender.attempt()
            except Exception:
                # Survive errors: without this thread the channel sends nothing.
                _LOG.exception("alerts for %s", sender.channel.describe())
            looked = self._clock.elapsed() - started
            pause = _LOOK_EVERY
            if sender.state.sent == sent:
                pause = min(max(pause, looked / _SHARE_OF_LOOKS), _LOOK_AT_LEAST_EVERY)
        try:
            sender.flush(patience=0.0)
        except FraudError as error:
            _LOG.error("alerts for %s: %s", sender.channel.describe(), error)

"""Sends alerts while they come in: threads beside a stream."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from beam_fraud.alerts.channels.channel import Channel, ChannelState
from beam_fraud.alerts.outbox import Counts, Outbox
from beam_fraud.alerts.policy import Clock
from beam_fraud.alerts.sender import ChannelSender
from beam_fraud.errors import FraudError

_LOG = logging.getLogger(__name__)
#: Seconds between two looks into the outbox: what an alert waits for on average is half of it.
_LOOK_EVERY = 0.02
#: Looks take this share of the time at most, where many alerts wait for their turn, up to seconds.
_SHARE_OF_LOOKS, _LOOK_AT_LEAST_EVERY = 0.3, 1.0


class Dispatcher:
    """Sends what is in the outbox to its channels, as long as it runs.

    Every channel has a thread of its own: one that fails or stalls is tried again later and does
    not stop the others. Of several processes with one outbox, one sends for a channel; if it ends
    another takes over. It needs nothing of whoever queues the alerts but the database.
    """

    def __init__(
        self, outbox: Outbox, channels: Sequence[Channel], clock: Clock | None = None
    ) -> None:
        """Be ready to send what is in `outbox`; of two channels with one name the first."""
        self._outbox = outbox
        self._clock = Clock() if clock is None else clock
        named = {channel.name: channel for channel in reversed(channels)}
        self._senders = {
            name: ChannelSender(outbox.url, channel, self._clock) for name, channel in named.items()
        }
        self._done = threading.Event()

    @property
    def states(self) -> dict[str, ChannelState]:
        """Name of a channel to how it is doing."""
        return {name: sender.state for name, sender in self._senders.items()}

    @property
    def sent(self) -> int:
        """Alerts sent so far, over all channels."""
        return sum(state.sent for state in self.states.values())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send while the body runs, and in the end what is left, once."""
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
        """Name of a channel to how many of its alerts wait, of nobody who is snoozed.

        Raises:
          FraudError: the outbox cannot be reached.
        """
        return {name: counts.pending for name, counts in self._counts().items()}

    def snoozed(self) -> dict[str, int]:
        """Name of a channel to how many of its alerts wait for the end of a snooze.

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
                # The thread lives on: without it nobody would be told of anything.
                _LOG.exception("alerts for %s", sender.channel.describe())
            looked = self._clock.elapsed() - started
            pause = _LOOK_EVERY
            if sender.state.sent == sent:
                pause = min(max(pause, looked / _SHARE_OF_LOOKS), _LOOK_AT_LEAST_EVERY)
        try:
            sender.flush(patience=0.0)
        except FraudError as error:
            _LOG.error("alerts for %s: %s", sender.channel.describe(), error)

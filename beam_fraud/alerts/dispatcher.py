"""Send alerts beside a running stream, in threads."""

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
#: Seconds between two polls of the outbox: an alert waits half of them on average.
_LOOK_EVERY = 0.02
#: Maximum share of the time that polls take if many alerts are pending, up to a pause in seconds.
_SHARE_OF_LOOKS, _LOOK_AT_LEAST_EVERY = 0.3, 1.0


class Dispatcher:
    """Send the alerts of the outbox to its channels while it runs.

    Each channel has its own thread, so a failing or stalled channel does not delay the others. Of
    several processes with one outbox, one sends for a channel; when that process ends, another
    takes over. The dispatcher shares only the database with the processes that queue alerts.
    """

    def __init__(
        self, outbox: Outbox, channels: Sequence[Channel], clock: Clock | None = None
    ) -> None:
        """Prepare a dispatcher of `outbox`; of two channels with one name, the first sends."""
        self._outbox = outbox
        self._clock = Clock() if clock is None else clock
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

"""Sends alerts while they come in: a thread beside a stream."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from beam_fraud.alerts.channel import Channel
from beam_fraud.alerts.dispatch import PAGE
from beam_fraud.alerts.message import Message
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.errors import FraudError

_LOG = logging.getLogger(__name__)
#: Seconds between two looks into the outbox: what an alert waits for on average is half of it.
_LOOK_EVERY = 0.02
#: Seconds until a channel that has failed is tried again; doubled each time, up to the second.
_RETRY_AFTER, _RETRY_AT_LEAST_EVERY = 1.0, 60.0


@dataclass
class ChannelState:
    """How a channel is doing."""

    #: Alerts sent so far, since the start.
    sent: int = 0
    #: Why it failed the last time, or None if it did not.
    error: str | None = None
    #: When it may be tried again, on the monotonic clock.
    next_try: float = 0.0
    #: Seconds of the pause after the next failure.
    pause: float = field(default=_RETRY_AFTER, repr=False)


class Dispatcher:
    """Sends what is in the outbox to its channels, as long as it runs.

    An alert is marked after it was sent: one that was sent when the process died goes out again,
    none is lost. A channel that fails is tried again later and does not stop the others. It needs
    nothing of whoever queues the alerts but the database.
    """

    def __init__(self, outbox: Outbox, channels: Sequence[Channel]) -> None:
        """Be ready to send what is in `outbox`."""
        self._outbox = outbox
        self._channels = {channel.name: channel for channel in channels}
        #: Name of a channel to how it is doing.
        self.states = {name: ChannelState() for name in self._channels}
        self._done = threading.Event()

    @property
    def sent(self) -> int:
        """Alerts sent so far, over all channels."""
        return sum(state.sent for state in self.states.values())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send while the body runs, and in the end what is left."""
        thread = threading.Thread(target=self._run, name="alerts", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()
            self._send_all(again=True)

    def waiting(self) -> dict[str, int]:
        """Name of a channel to how many of its alerts wait.

        Raises:
          FraudError: the outbox cannot be reached.
        """
        counts = self._outbox.counts()
        return {name: counts[name].pending if name in counts else 0 for name in self._channels}

    def _run(self) -> None:
        while not self._done.wait(_LOOK_EVERY):
            self._send_all()

    def _send_all(self, *, again: bool = False) -> None:
        """Send what waits; a channel in a pause is left out unless `again`."""
        for name, channel in self._channels.items():
            state = self.states[name]
            if again or time.monotonic() >= state.next_try:
                try:
                    self._send(channel, state)
                except (FraudError, OSError) as error:
                    self._failed(channel, state, error)

    def _send(self, channel: Channel, state: ChannelState) -> None:
        while page := self._outbox.pending(channel.name, PAGE):
            channel.send(
                Message(page[0].alert_id, "alerts", datetime.now(UTC), tuple(page), len(page))
            )
            self._outbox.mark_sent([alert.alert_id for alert in page], datetime.now(UTC))
            state.sent += len(page)
            if state.error is not None:
                _LOG.info("alerts for %s are sent again", channel.describe())
                state.error, state.pause = None, _RETRY_AFTER

    def _failed(self, channel: Channel, state: ChannelState, error: Exception) -> None:
        said = " ".join(str(error).split())
        if state.error is None:
            _LOG.warning(
                "alerts for %s wait in the outbox and are tried again: %s", channel.describe(), said
            )
        state.error = said
        state.next_try = time.monotonic() + state.pause
        state.pause = min(state.pause * 2, _RETRY_AT_LEAST_EVERY)

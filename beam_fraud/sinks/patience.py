"""Waiting for a broker that does not answer."""

from __future__ import annotations

import logging
from time import monotonic

from beam_fraud.kafka.settings import KafkaSettings
from beam_fraud.waiting import Wait

_LOG = logging.getLogger(__name__)
#: How long a broker may be silent before that is told, in seconds.
SILENT_SECONDS = 5.0


class Patience:
    """Tells that a broker has been silent for long, and that it is back."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Begin to wait for the brokers of `settings`."""
        self._where = f"Kafka {settings.bootstrap}"
        self._since = monotonic()
        self._left = 0
        self._wait = Wait(_LOG)

    def goes_on(self, left: int) -> float:
        """Messages still wait, `left` of them; for how many seconds none has been taken."""
        if left < self._left:
            self._since = monotonic()
        self._left = left
        silence = monotonic() - self._since
        if silence >= SILENT_SECONDS:
            self._wait.goes_on(f"{self._where}: no answer; {left:,} messages wait for the broker")
        return silence

    def over(self) -> None:
        """Nothing is waited for any more."""
        self._wait.over(f"{self._where}: the broker has taken all messages")

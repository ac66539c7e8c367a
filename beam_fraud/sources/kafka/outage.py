"""Whether the brokers can be reached, asked when in doubt."""

from __future__ import annotations

import logging
from time import monotonic

from beam_fraud.kafka.client import Reports
from beam_fraud.kafka.failure import is_hopeless, no_connection
from beam_fraud.kafka.library import Consumer, KafkaException
from beam_fraud.kafka.settings import KafkaSettings
from beam_fraud.waiting import Wait

_LOG = logging.getLogger(__name__)
#: How long a broker may take to answer a question of a reader, in seconds; it takes that long only
#: if it is away, and then there is nothing to read.
QUICKLY = 1.0
#: Seconds between two questions.
_EVERY = 1.0


class Outage:
    """The state of the connection of one consumer.

    Connections break for reasons that cost nothing (one of several brokers restarts, one was idle),
    so what a client reports is only cause to ask.
    """

    def __init__(self, settings: KafkaSettings, reports: Reports) -> None:
        self._settings, self._reports = settings, reports
        self._wait = Wait(_LOG)
        self._ask_next = 0.0

    @property
    def lasts(self) -> bool:
        """Whether no broker answers."""
        return self._wait.lasts

    def over(self) -> None:
        """A message has come."""
        self._reports.clear()
        self._wait.over(f"Kafka {self._settings.bootstrap}: the broker is back")

    def look(self, consumer: Consumer, topic: str, *, doubt: bool = False) -> None:
        """Nothing has come: see whether that is for want of a broker.

        Args:
          consumer: to ask by.
          topic: to ask for; for all of them would be a large answer.
          doubt: whether to ask though nothing was reported.

        Raises:
          FraudError: the login is refused, or there is no TLS.
        """
        doubt = doubt or self.lasts or bool(self._reports.errors)
        if not doubt or monotonic() < self._ask_next:
            return
        try:
            consumer.list_topics(topic, timeout=QUICKLY)
        except KafkaException:
            self._ask_next = monotonic() + _EVERY
            if any(map(is_hopeless, self._reports.errors)):
                raise no_connection(self._settings, self._reports.errors) from None
            self._wait.goes_on(f"Kafka {self._settings.bootstrap}: the broker is not reachable")
        else:
            self.over()

"""A topic as a place to write to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

from beam_fraud.kafka.settings import KafkaSettings

if TYPE_CHECKING:
    from beam_fraud.sinks.producer import TopicProducer

#: Connections of this process that nobody uses: to connect anew takes longer than most bundles.
_idle: defaultdict[KafkaSettings, list[TopicProducer]] = defaultdict(list)
_lock = Lock()


class TopicWriter:
    """Writes to one topic, through a connection of its own while it has something to write.

    What a crash interrupts is written again: a reader has to expect repeats, and knows them by the
    message's key.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._producer: TopicProducer | None = None

    def write(self, values: Sequence[bytes], keys: Sequence[str]) -> None:
        """Hand messages over; they are written when `flush` has returned.

        Args:
          values: n messages.
          keys: n keys; messages of one key go to one partition.

        Raises:
          FraudError: a message is refused for good: it is too large, or the topic is unknown or
            not for this user. While the broker is down this waits.
          UsageError: the settings are none of a producer.
        """
        pairs = zip(values, keys, strict=True)
        self._leased().write_all(
            self._topic, [{"value": value, "key": key} for value, key in pairs]
        )

    def write_with_headers(self, value: bytes, headers: Sequence[tuple[str, str]]) -> None:
        """Hand over one message without a key; otherwise as `write`."""
        self._leased().write(self._topic, value, headers)

    def flush(self) -> None:
        """Wait until the broker has all that was handed over, and let go of the connection.

        Raises:
          FraudError: as in `write`.
        """
        if self._producer is not None:
            self._producer.flush()
            with _lock:
                _idle[self._settings].append(self._producer)
            self._producer = None

    def _leased(self) -> TopicProducer:
        if self._producer is None:
            with _lock:
                idle = _idle[self._settings]
                self._producer = idle.pop() if idle else None
        if self._producer is None:
            # Only here: streams without topics do without the client library.
            from beam_fraud.sinks.producer import TopicProducer

            self._producer = TopicProducer(self._settings)
        return self._producer

"""Write to a Kafka topic; wait while no broker answers."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from threading import Lock
from time import monotonic
from typing import Any

from beam_fraud.errors import Code, FraudError
from beam_fraud.monitoring.waiting import Wait
from beam_fraud.sources.kafka.check import is_lost
from beam_fraud.sources.kafka.client import Reports, new_producer
from beam_fraud.sources.kafka.failure import (
    KafkaError,
    KafkaException,
    Message,
    about_topic,
    is_hopeless,
    no_connection,
)
from beam_fraud.sources.kafka.settings import KafkaSettings

_LOG = logging.getLogger(__name__)
#: Seconds of a broker's silence before a warning.
SILENT_SECONDS = 5.0


class Patience:
    """Log that a broker has been silent for long, and that it is back."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._where = f"Kafka {settings.bootstrap}"
        self._since = monotonic()
        self._left = 0
        self._wait = Wait(_LOG)

    def goes_on(self, left: int) -> float:
        """Record `left` pending messages; return the seconds since the last was accepted."""
        if left < self._left:
            self._since = monotonic()
        self._left = left
        silence = monotonic() - self._since
        if silence >= SILENT_SECONDS:
            self._wait.goes_on(f"{self._where}: no answer; {left:,} messages wait for the broker")
        return silence

    def over(self) -> None:
        """Record the end of the wait."""
        self._wait.over(f"{self._where}: the broker has taken all messages")


_Headers = list[tuple[str, str]]
#: Seconds for which a refused login may come from a broker that starts or stops.
_REFUSAL_SECONDS = 1.0
#: Seconds between two polls of a wait.
_SLICE = 0.2
#: Time limit in seconds of a request on a connection in doubt: more than a reconnection takes.
_COMPARE_SECONDS = 3.0
_RETURNED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)
_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE)


class TopicProducer:
    """Send messages; for one thread, and unusable after an error."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._reports = Reports()
        self._kafka = new_producer(settings, self._reports)
        #: The first error of a refused message.
        self._refusal: FraudError | None = None
        #: Messages that a lost connection has returned: topic, value, key and headers.
        self._returned: list[tuple[str, bytes | None, bytes | None, _Headers]] = []
        #: The topic of the last message.
        self._topic = ""
        self._compare_next = 0.0

    def write_all(self, topic: str, messages: list[dict[str, Any]]) -> None:
        """Send messages, each with `value` and `key`; wait while the queue is full.

        Raises:
          FraudError: as in `flush`.
        """
        self._topic = topic
        patience = Patience(self._settings)
        while True:
            queued = self._kafka.produce_batch(topic, messages, on_delivery=self._delivered)
            if queued == len(messages):
                break
            # After a full queue, send no further message at once, to keep their order.
            messages = [message for message in messages if "_error" in message]
            for message in messages:
                error = message.pop("_error")
                if error.code() != KafkaError._QUEUE_FULL:
                    self._refuse(error, topic, len(message["value"]))
            self._make_room(patience)
        self._go_on(patience)

    def write(self, topic: str, value: bytes, headers: Sequence[tuple[str, str]]) -> None:
        """Send a message with headers; wait while the queue is full.

        Raises:
          FraudError: as in `flush`.
        """
        self._topic = topic
        patience = Patience(self._settings)
        # A delivery report has no headers.
        delivered = partial(self._delivered, headers=[*headers])
        while True:
            try:
                self._kafka.produce(topic, value, headers=[*headers], on_delivery=delivered)
                break
            except BufferError:
                self._make_room(patience)
            except KafkaException as error:
                self._refuse(error.args[0], topic, len(value))
                break
        self._go_on(patience)

    def flush(self) -> None:
        """Wait until the broker has acknowledged every message.

        Raises:
          FraudError: a message or the login is refused permanently; one line with the reason.
        """
        patience = Patience(self._settings)
        while left := self._kafka.flush(_SLICE):
            self._wait_on(patience, left)
        self._refuse_refused()
        self._reports.clear()
        patience.over()

    def _make_room(self, patience: Patience) -> None:
        self._kafka.poll(0.01)
        self._wait_on(patience, len(self._kafka))

    def _go_on(self, patience: Patience) -> None:
        self._kafka.poll(0)
        self._refuse_refused()
        patience.over()

    def _wait_on(self, patience: Patience, left: int) -> None:
        self._refuse_refused()
        silence = patience.goes_on(left)
        reports = self._reports.errors
        if any(error.fatal() for error in reports):
            raise FraudError(
                f"Kafka {self._settings.bootstrap}: writing failed "
                f"({self._settings.without_secrets(reports[-1].str())}); run again",
                Code.TOPIC_FAILED,
            )
        # A broker that shuts down may break off a login; one that has refused it reports nothing
        # else.
        errors = [e for e in reports if e.code() != KafkaError._ALL_BROKERS_DOWN]
        if errors and is_hopeless(errors[-1]) and silence >= _REFUSAL_SECONDS:
            raise no_connection(self._settings, reports)
        if silence >= SILENT_SECONDS and monotonic() >= self._compare_next:
            if is_lost(self._kafka, self._settings, self._topic, _COMPARE_SECONDS):
                self._reconnect()
            self._compare_next = monotonic() + SILENT_SECONDS

    def _reconnect(self) -> None:
        """Send all pending messages on a new connection, in their order; some may come twice."""
        self._kafka.purge()
        self._kafka.flush(_SLICE)
        returned, self._returned = self._returned, []
        self._reports.clear()
        self._kafka = new_producer(self._settings, self._reports)
        for topic, value, key, headers in returned:
            delivered = partial(self._delivered, headers=headers)
            self._kafka.produce(topic, value, key, headers=[*headers], on_delivery=delivered)

    def _refuse_refused(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    def _delivered(
        self, error: KafkaError | None, message: Message, headers: _Headers | None = None
    ) -> None:
        if error is None:
            return
        topic = message.topic() or ""
        if error.code() in _RETURNED:
            self._returned.append((topic, message.value(), message.key(), headers or []))
        else:
            self._refuse(error, topic, len(message))

    def _refuse(self, error: KafkaError, topic: str, size: int) -> None:
        if self._refusal is not None:
            return
        if error.code() in _TOO_LARGE:
            self._refusal = FraudError(
                f"Kafka {self._settings.bootstrap}: topic {topic!r}: a message of {size:,} bytes "
                "is too large; raise max.message.bytes of the topic, and message.max.bytes by "
                "--kafka-config",
                Code.MESSAGE_TOO_LARGE,
            )
        else:
            self._refusal = about_topic(self._settings, topic, error)


#: Idle connections of this process: a new connection takes longer than most bundles.
_idle: defaultdict[KafkaSettings, list[TopicProducer]] = defaultdict(list)
_lock = Lock()


class TopicWriter:
    """Write to one topic, with a connection of its own while it has messages.

    A retry after a crash writes messages again: readers must expect repeats, and recognise them by
    the key.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._producer: TopicProducer | None = None

    def write(self, values: Sequence[bytes], keys: Sequence[str]) -> None:
        """Queue messages; they are written once `flush` returns.

        Args:
          values: n messages.
          keys: n keys; messages of one key go to one partition.

        Raises:
          FraudError: a message is refused permanently: too large, or the topic does not exist or
            refuses this user. While the broker is down, the call waits.
          UsageError: the settings are invalid for a producer.
        """
        pairs = zip(values, keys, strict=True)
        self._leased().write_all(
            self._topic, [{"value": value, "key": key} for value, key in pairs]
        )

    def write_with_headers(self, value: bytes, headers: Sequence[tuple[str, str]]) -> None:
        """Queue one message without a key; otherwise as `write`."""
        self._leased().write(self._topic, value, headers)

    def flush(self) -> None:
        """Wait until the broker has acknowledged every message, and release the connection.

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
            self._producer = TopicProducer(self._settings)
        return self._producer

"""A producer of messages, and what its broker says of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from beam_fraud.errors import FraudError, UsageError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message
    from confluent_kafka import Producer as KafkaProducer

_LOG = logging.getLogger(__name__)
#: How long a broker may be silent before that is told, in seconds.
SILENT_SECONDS = 5.0
#: How often whoever waits looks up, in seconds.
_SLICE = 0.2

#: What can be set otherwise.
_USUAL = {
    # A bundle waits for its messages, so they may wait for each other only briefly.
    "linger.ms": 2,
    "compression.type": "lz4",
    # While the broker is down everything waits; nothing is given up.
    "message.timeout.ms": 0,
    # Keys go where the clients of Java put them.
    "partitioner": "murmur2_random",
    # What matters of its log comes as errors, too.
    "log_level": 0,
}
#: Why a message is refused, by the name of the error, and what helps.
_REFUSED = {
    "MSG_SIZE_TOO_LARGE": "too large; raise max.message.bytes of the topic and message.max.bytes "
    "of the producer (--kafka-config)",
    "_UNKNOWN_TOPIC": "there is no such topic; create it",
    "UNKNOWN_TOPIC_OR_PART": "there is no such topic; create it",
    "TOPIC_AUTHORIZATION_FAILED": "this user may not write to it; give another or allow it",
    "CLUSTER_AUTHORIZATION_FAILED": "this user may not write here; give another or allow it",
}
#: Errors of the connection that waiting does not mend.
_LOGIN = ("_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED")


class ProducerSettings(Protocol):
    """How a broker is reached; hashable, and it travels to the workers."""

    def producer_config(self) -> dict[str, Any]:
        """Properties of librdkafka, secrets included."""

    def describe(self) -> str:
        """The broker, for messages."""


class Producer:
    """A connection that writes to topics: in order, each message once, whatever fails between.

    It waits as long as the broker is down, and says so once. It serves one thread.
    """

    def __init__(self, settings: ProducerSettings) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka import Producer as KafkaProducer

        self._where = settings.describe()
        #: The first message that was refused for good.
        self._refused: tuple[KafkaError, str, int] | None = None
        #: Why no message will ever be taken.
        self._broken: KafkaError | None = None
        needed = {
            "enable.idempotence": True,
            # Of those that are written there is nothing to say.
            "delivery.report.only.error": True,
            "error_cb": self._heard,
        }
        try:
            config = {**_USUAL, **settings.producer_config(), **needed}
            self._kafka: KafkaProducer = KafkaProducer(config)
        except KafkaException as error:
            raise UsageError(f"{self._where}: {error.args[0].str()}; see --kafka-config") from None

    def write_all(self, topic: str, messages: list[dict[str, Any]]) -> None:
        """Hand over messages, each with `value` and perhaps `key`; waits while too many wait.

        Raises:
          FraudError: as `check` says.
        """
        patience = _Patience(self._where)
        while True:
            taken = self._kafka.produce_batch(topic, messages, on_delivery=self._reported)
            if taken == len(messages):
                break
            messages = [message for message in messages if "_error" in message]
            for message in messages:
                error = message.pop("_error")
                if error.name() != "_QUEUE_FULL":
                    self._refuse(error, topic, len(message["value"]))
            self._make_room(patience)
        patience.over()
        self._kafka.poll(0)
        self.check()

    def write(self, topic: str, value: bytes, headers: Sequence[tuple[str, str]]) -> None:
        """Hand over one message with headers; waits while too many wait.

        Raises:
          FraudError: as `check` says.
        """
        from confluent_kafka import KafkaException

        patience = _Patience(self._where)
        while True:
            try:
                self._kafka.produce(topic, value, headers=[*headers], on_delivery=self._reported)
            except BufferError:
                self._make_room(patience)
                continue
            except KafkaException as error:
                self._refuse(error.args[0], topic, len(value))
            break
        patience.over()
        self.check()

    def flush(self) -> None:
        """Wait until the broker has all that was handed over.

        Raises:
          FraudError: as `check` says.
        """
        patience = _Patience(self._where)
        while left := self._kafka.flush(_SLICE):
            self.check()
            patience.goes_on(left)
        self.check()
        patience.over()

    def check(self) -> None:
        """See that nothing was refused for good.

        Raises:
          FraudError: a message was, or the broker refuses them all; in one line that says why.
        """
        if self._refused is not None:
            error, topic, size = self._refused
            why = _REFUSED.get(error.name(), error.str())
            raise FraudError(
                f"topic {topic!r} at {self._where}: a message of {size:,} bytes is refused: {why}"
            )
        if self._broken is not None:
            raise FraudError(f"{self._where}: no message is taken: {self._broken.str()}")

    def _make_room(self, patience: _Patience) -> None:
        self._kafka.poll(0.01)
        self.check()
        patience.goes_on(len(self._kafka))

    def _heard(self, error: KafkaError) -> None:
        if error.fatal() or error.name() in _LOGIN:
            self._broken = error

    def _reported(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._refuse(error, message.topic() or "", len(message))

    def _refuse(self, error: KafkaError, topic: str, size: int) -> None:
        if self._refused is None:
            self._refused = (error, topic, size)


class _Patience:
    """Tells once that a broker has been silent for long, and that it is back."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._since = monotonic()
        self._told = False

    def goes_on(self, messages: int) -> None:
        if not self._told and monotonic() - self._since >= SILENT_SECONDS:
            _LOG.warning("%s: does not answer, %d messages wait for it", self._where, messages)
            self._told = True

    def over(self) -> None:
        if self._told:
            _LOG.info("%s: has taken all messages", self._where)

"""Alerts into a Kafka topic."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from beam_fraud.alerts.channels.channel import MessageRefusedError
from beam_fraud.alerts.channels.message_json import message_records
from beam_fraud.alerts.channels.options import parse_options
from beam_fraud.alerts.message import FIELDS, Message
from beam_fraud.alerts.policy import AS_THEY_COME, Policy
from beam_fraud.errors import FraudError, UsageError
from beam_fraud.sources.kafka.check import topic_partitions
from beam_fraud.sources.kafka.client import Reports, new_producer
from beam_fraud.sources.kafka.failure import (
    KafkaError,
    KafkaException,
    Producer,
    about_topic,
    is_passing,
    no_connection,
)
from beam_fraud.sources.kafka.settings import KafkaSettings, parse_properties

_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE)


@dataclass(frozen=True)
class TopicChannel:
    """One record an alert, by its id; the brokers have it before `send` returns."""

    #: How the brokers are reached; with a bound on how long a record may take.
    settings: KafkaSettings
    topic: str
    #: By default as they come: every alert is a record of its own.
    policy: Policy = AS_THEY_COME
    #: What of an alert is written.
    fields: tuple[str, ...] = FIELDS
    #: What reports on the connections, and the producer while it is open.
    _open: list[tuple[Producer, Reports]] = field(
        init=False, repr=False, compare=False, default_factory=list
    )

    @property
    def name(self) -> str:
        """`kafka:`, brokers and topic."""
        return f"kafka://{self.settings.bootstrap}/{self.topic}"

    def check(self) -> None:
        """See that the topic is there; nothing is written.

        Raises:
          FraudError: no broker answers, or there is no such topic for this login.
        """
        try:
            topic_partitions(self.settings, self.topic)
        except FraudError as error:
            raise self._failure(error) from None

    def send(self, message: Message) -> None:
        """Write its alerts, and wait until the brokers have them.

        Raises:
          MessageRefusedError: a record is too large.
          FraudError: no broker answers, or the topic is not there or not for this login.
        """
        refused: list[KafkaError] = []
        try:
            self._write(message, refused)
        except FraudError as error:
            self.close()
            raise self._failure(error) from None
        if refused:
            self.close()
            worst = next((e for e in refused if e.code() not in _TOO_LARGE), refused[0])
            raise self._refusal(worst)

    def close(self) -> None:
        """Let go of the connection; what was not delivered is dropped."""
        while self._open:
            producer, _ = self._open.pop()
            producer.purge()
            producer.flush(1.0)

    def describe(self) -> str:
        """The name, which holds no secret."""
        return self.name

    def _write(self, message: Message, refused: list[KafkaError]) -> None:
        def delivered(error: KafkaError | None, _: object) -> None:
            if error is not None:
                refused.append(error)

        if not self._open:
            reports = Reports()
            self._open.append((new_producer(self.settings, reports), reports))
        producer, reports = self._open[0]
        reports.clear()
        for key, value in message_records(message, self.fields):
            while not refused:
                try:
                    producer.produce(self.topic, value, key, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.1)
                except KafkaException as error:
                    refused.append(error.args[0])
        # Every record is delivered or refused by the bound that the settings have.
        while not refused and producer.flush(0.5):
            pass

    def _refusal(self, error: KafkaError) -> FraudError:
        if error.code() in _TOO_LARGE:
            return MessageRefusedError(
                f"--alert {self.name}: a record is too large; raise max.message.bytes of the topic"
            )
        if is_passing(error) or error.code() == KafkaError._MSG_TIMED_OUT:
            return self._failure(no_connection(self.settings, []))
        return self._failure(about_topic(self.settings, self.topic, error))

    def _failure(self, error: FraudError) -> FraudError:
        said = str(error).replace("--kafka-config", "config")
        return type(error)(f"--alert {self.name}: {said}")


FORM = "kafka://HOST:PORT/TOPIC"
_PARTS = re.compile(r"//([^/?#]*)/([^/?#]+)(?:\?([^#]*))?")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
#: Milliseconds that a record may take: after them it waits in the outbox, and not in the client.
_PATIENCE = ("message.timeout.ms", "10000")


def topic_channel(rest: str) -> TopicChannel:
    """The channel of a `kafka:` URL, without its scheme; nothing is connected to.

    Raises:
      UsageError: it is not written so.
      FraudError: the client library is not installed.
    """
    parts = _PARTS.fullmatch(rest)
    topic = unquote(parts[2]) if parts else ""
    if parts is None or not _TOPIC.fullmatch(topic):
        raise UsageError(f"--alert: no brokers and topic can be read, write {FORM}")
    where = f"--alert kafka://{parts[1].rpartition('@')[2]}/{topic}"
    options = parse_options(where, parts[3] or "", ("config",))
    try:
        properties = dict([_PATIENCE, *parse_properties("--kafka-config", options.config)])
        settings = KafkaSettings(parts[1], tuple(properties.items()))
    except FraudError as error:
        said = str(error).replace("--kafka-config", "config").replace("--kafka: ", "")
        raise type(error)(f"{where}: {said}") from None
    return TopicChannel(settings, topic, options.policy(AS_THEY_COME), options.fields())

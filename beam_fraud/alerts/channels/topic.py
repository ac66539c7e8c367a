"""Write alerts to a Kafka topic (`kafka://HOST:PORT/TOPIC?config=KEY=VALUE`)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

from beam_fraud.alerts.channels.channel import MessageRefusedError
from beam_fraud.alerts.channels.options import parse_options
from beam_fraud.alerts.message import FIELDS, Message, message_records
from beam_fraud.alerts.policy import AS_THEY_COME, Policy
from beam_fraud.errors import Code, FraudError, UsageError
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
from beam_fraud.wording import printable

_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE)


@dataclass(frozen=True)
class TopicChannel:
    """Write one record per alert, keyed by its id; `send` returns when the brokers have it."""

    disk: ClassVar[Path | None] = None
    #: Connection settings of the client, with a time limit per record.
    settings: KafkaSettings
    topic: str
    #: Default: write each alert at once as its own record.
    policy: Policy = AS_THEY_COME
    #: Fields of an alert to write.
    fields: tuple[str, ...] = FIELDS
    #: The reporter of connection failures, and the producer while it is open.
    _open: list[tuple[Producer, Reports]] = field(
        init=False, repr=False, compare=False, default_factory=list
    )

    @property
    def name(self) -> str:
        return f"kafka://{self.settings.bootstrap}/{self.topic}"

    def check(self) -> None:
        """Check that the topic exists, without writing.

        Raises:
          FraudError: no broker responds, or the topic does not exist for this login.
        """
        try:
            topic_partitions(self.settings, self.topic)
        except FraudError as error:
            raise self._failure(error) from None

    def send(self, message: Message) -> None:
        """Write the alerts and wait until the brokers have them.

        Raises:
          MessageRefusedError: a record is too large.
          FraudError: no broker responds, or the topic does not exist or refuses this login.
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
        """Close the connection and drop undelivered records."""
        while self._open:
            producer, _ = self._open.pop()
            producer.purge()
            producer.flush(1.0)

    def describe(self) -> str:
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
        # The time limit of the settings ends the wait for every record.
        while not refused and producer.flush(0.5):
            pass

    def _refusal(self, error: KafkaError) -> FraudError:
        if error.code() in _TOO_LARGE:
            return MessageRefusedError(
                f"--alert {self.name}: a record is too large; raise max.message.bytes of the topic",
                Code.MESSAGE_TOO_LARGE,
            )
        if is_passing(error) or error.code() == KafkaError._MSG_TIMED_OUT:
            return self._failure(no_connection(self.settings, []))
        return self._failure(about_topic(self.settings, self.topic, error))

    def _failure(self, error: FraudError) -> FraudError:
        reason = str(error).replace("--kafka-config", "config")
        return error.with_message(f"--alert {self.name}: {reason}")


FORM = "kafka://HOST:PORT/TOPIC"
_PARTS = re.compile(r"//([^/?#]*)/([^/?#]+)(?:\?([^#]*))?")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
#: Time limit of a record in milliseconds; then the alert waits in the outbox, not in the client.
_PATIENCE = ("message.timeout.ms", "10000")


def topic_channel(rest: str) -> TopicChannel:
    """Return the channel of a `kafka:` URL, without its scheme; connect to nothing.

    Raises:
      UsageError: the URL has another form.
      FraudError: the client library is not installed.
    """
    parts = _PARTS.fullmatch(rest)
    topic = unquote(parts[2]) if parts else ""
    if parts is None or not _TOPIC.fullmatch(topic):
        raise UsageError(
            f"--alert: no brokers and topic can be read, write {FORM}", Code.CHANNEL_URL
        )
    where = f"--alert kafka://{printable(parts[1].rpartition('@')[2])}/{topic}"
    options = parse_options(where, parts[3] or "", ("config",))
    try:
        properties = dict([_PATIENCE, *parse_properties("--kafka-config", options.config)])
        settings = KafkaSettings(parts[1], tuple(properties.items()))
    except FraudError as error:
        reason = str(error).replace("--kafka-config", "config").replace("--kafka: ", "")
        raise error.with_message(f"{where}: {reason}") from None
    return TopicChannel(settings, topic, options.policy(AS_THEY_COME), options.fields())

"""Options of a stream of topics: their checks, and what they declare.

What needs the client library is imported where a broker is asked: a stream of files needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from beam_fraud.errors import Code, UsageError
from beam_fraud.records.json_records import Decode, NewestEvent
from beam_fraud.records.messages import OutForm
from beam_fraud.records.parse import accepted, decode_messages
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.kafka.registry import RegistrySettings, registry_of
from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.sources.kafka.topic import KafkaTopic, Start
from beam_fraud.storage.checkpoint import about_topics
from beam_fraud.storage.stream_outputs import StreamOutputs

if TYPE_CHECKING:
    from beam_fraud.sources.kafka.source import KafkaSource


class BrokerOptions(Protocol):
    """Options that name a broker and say how it is reached."""

    @property
    def kafka(self) -> str | None:
        """`--kafka`."""

    @property
    def kafka_config(self) -> tuple[str, ...]:
        """`--kafka-config`."""

    @property
    def kafka_properties(self) -> str | None:
        """`--kafka-properties`."""


class RegistryOptions(Protocol):
    """Options that name a schema registry."""

    @property
    def schema_registry(self) -> str | None:
        """`--schema-registry`."""

    @property
    def schema_registry_config(self) -> tuple[str, ...]:
        """`--schema-registry-config`."""


class TopicOptions(BrokerOptions, RegistryOptions, Protocol):
    """Options of a stream that reads and writes topics."""

    @property
    def topic(self) -> str | None:
        """`--topic`."""

    @property
    def labels_topic(self) -> str | None:
        """`--labels-topic`."""

    @property
    def out_topic(self) -> str | None:
        """`--out-topic`."""

    @property
    def out_format(self) -> OutForm:
        """`--out-format`."""

    @property
    def dead_letter_topic(self) -> str | None:
        """`--dead-letter-topic`."""

    @property
    def start(self) -> str:
        """`--start`."""


def broker_settings(options: BrokerOptions) -> KafkaSettings:
    """Return the connection settings of a call that names a broker.

    Raises:
      UsageError: a property is invalid.
      FraudError: the file of properties cannot be read.
    """
    settings = _settings(options)
    settings.check()
    return settings


def registry_settings(options: RegistryOptions) -> RegistrySettings | None:
    """Return the settings of a schema registry; None if the call names none.

    Raises:
      UsageError: the address or a property is invalid.
    """
    if options.schema_registry is None:
        if options.schema_registry_config:
            raise UsageError(
                "--schema-registry-config: needs --schema-registry URL", Code.OPTION_MISSING
            )
        return None
    return RegistrySettings.parse(options.schema_registry, options.schema_registry_config)


def refuse_topic_options(options: TopicOptions, start: str, instead: str) -> None:
    """Refuse options of topics in a call without a broker.

    Args:
      options: options of the call.
      start: default of `--start`.
      instead: the option that the call has instead, or "".

    Raises:
      UsageError: one of them is set.
    """
    for name, value in (
        *_topics(options).items(),
        ("--kafka-config", options.kafka_config),
        ("--kafka-properties", options.kafka_properties),
        ("--schema-registry", options.schema_registry),
        ("--schema-registry-config", options.schema_registry_config),
        ("--start", options.start != start),
    ):
        if value:
            but = f", not {instead}" if instead else ""
            raise UsageError(f"{name}: needs --kafka HOST:PORT{but}", Code.OPTION_CONFLICT)


@dataclass(frozen=True)
class StreamTopics:
    """The topics of a stream, checked as far as no broker and no file is needed."""

    #: Connection settings.
    kafka: KafkaSettings
    #: The topics to read, that of transactions first.
    read: tuple[KafkaTopic, ...]
    #: The topics to write.
    written: tuple[str, ...]
    #: Start in topics without positions.
    start: Start
    #: Schema registry of framed messages, or None.
    registry: RegistrySettings | None
    #: Files that every worker reads itself, so that no job contains secrets: option to path.
    worker_files: Mapping[str, str]

    @classmethod
    def of(cls, options: TopicOptions) -> StreamTopics:
        """Parse the options of a stream that names a broker.

        Raises:
          UsageError: one is missing or invalid, or a topic has two uses.
        """
        if options.topic is None:
            raise UsageError(
                "--topic: say which topic the transactions are in", Code.OPTION_MISSING
            )
        _refuse_shared(options)
        settings = _settings(options)
        read = [KafkaTopic(options.topic, "transactions")]
        if options.labels_topic is not None:
            read.append(KafkaTopic(options.labels_topic, "labels"))
        written = (options.out_topic, options.dead_letter_topic)
        files = {} if (file := options.kafka_properties) is None else {"--kafka-properties": file}
        registry = registry_settings(options)
        of_registry = {} if registry is None else registry.files
        if options.out_format == "avro" and (registry is None or options.out_topic is None):
            raise UsageError(
                "--out-format avro: needs --out-topic and --schema-registry", Code.OPTION_MISSING
            )
        return cls(
            settings,
            tuple(read),
            tuple(topic for topic in written if topic is not None),
            Start.parse(options.start),
            registry,
            files
            | {f"--kafka-config {name}": path for name, path in settings.files.items()}
            | {f"--schema-registry-config {name}": path for name, path in of_registry.items()},
        )

    def source(
        self,
        schema: Schema,
        labels: Labels,
        outputs: StreamOutputs,
        *,
        here: bool,
        reordered: bool,
        until_idle: float | None,
        lateness: int,
    ) -> KafkaSource:
        """Return the source of transactions and labels.

        Args:
          schema: schema of the transactions.
          labels: treatment of labels beside transactions; topics have their own messages of labels.
          outputs: outputs of the stream, with its state.
          here: whether it runs in this process, and keeps its state there.
          reordered: whether rows of partitions are brought into one order.
          until_idle: idle seconds after which it ends; None for never.
          lateness: microseconds that a row may be late.

        Raises:
          FraudError: the file of properties cannot be read, no broker answers, or it lacks a topic.
        """
        from beam_fraud.sources.kafka.check import topic_partitions
        from beam_fraud.sources.kafka.source import KafkaSource

        self.kafka.check()
        if self.registry is not None:
            registry_of(self.registry).check()
        partitions = [len(topic_partitions(self.kafka, topic.name)) for topic in self.read]
        return KafkaSource(
            settings=self.kafka,
            topics=self.read,
            start=self.start,
            newest_event=NewestEvent.of(schema, self._decode(schema, labels)),
            lateness=lateness,
            # One worker does everything here, and one mark per bundle makes the commit atomic.
            splits=1 if here else max(partitions),
            # Reordering needs each partition separately.
            together=here and not reordered,
            stop_file=str(outputs.stop_file),
            until_idle=until_idle,
            checkpoint=outputs.checkpoint if here else None,
        )

    def _decode(self, schema: Schema, labels: Labels) -> Decode | None:
        if self.registry is None:
            return None
        accepts = partial(accepted, schema, labels)
        return partial(decode_messages, registry=self.registry, accepts=accepts)

    @property
    def shown(self) -> str:
        """Name of the source, for messages."""
        return f"topic {self.read[0].name}"

    def check_written(self) -> None:
        """Check that the topics to write exist.

        Raises:
          FraudError: no broker answers, or it lacks one of them.
        """
        from beam_fraud.sources.kafka.check import topic_partitions

        for topic in self.written:
            topic_partitions(self.kafka, topic)

    def identity(self) -> dict[str, str]:
        """Return the part of the source in the identity of a stream.

        Raises:
          FraudError: no broker answers, or it lacks one of them.
        """
        from beam_fraud.sources.kafka.check import topic_ids

        ids = topic_ids(self.kafka, [topic.name for topic in self.read])
        return {"source": self.shown, **about_topics(ids)}


def _settings(options: BrokerOptions) -> KafkaSettings:
    assert options.kafka is not None, "a call without a broker has no settings"
    file = None if options.kafka_properties is None else Path(options.kafka_properties)
    return KafkaSettings.parse(options.kafka, options.kafka_config, file)


def _topics(options: TopicOptions) -> dict[str, str | None]:
    return {
        "--topic": options.topic,
        "--labels-topic": options.labels_topic,
        "--out-topic": options.out_topic,
        "--dead-letter-topic": options.dead_letter_topic,
    }


def _refuse_shared(options: TopicOptions) -> None:
    taken: dict[str, str] = {}
    for name, topic in _topics(options).items():
        if topic is None:
            continue
        if topic in taken:
            raise UsageError(
                f"{name} {topic}: is {taken[topic]} already; give another topic", Code.PLACE_SHARED
            )
        taken[topic] = name

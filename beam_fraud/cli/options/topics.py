"""Options of brokers, schema registries and the topics that are read, for commands to compose."""

from __future__ import annotations

from typing import Annotated

from beam_fraud.cli.options.declaration import Option, Pattern, options
from beam_fraud.cli.options.groups import FILE_OF_IMAGE

#: Pattern of a topic in the Dataflow template.
TOPIC = Pattern(r"^[a-zA-Z0-9._-]{1,249}$")


@options
class KafkaOptions:
    """How a broker of Kafka is reached, beside its address."""

    kafka_config: Annotated[
        tuple[str, ...],
        Option(
            "--kafka-config",
            metavar="KEY=VALUE",
            help="A property of librdkafka; the value may be env:NAME or file:PATH; repeatable.",
            template=Pattern(
                r"^[^=;]+=[^;]*(;[^=;]+=[^;]*)*$", "Passwords belong into a file of the image"
            ),
        ),
    ] = ()
    kafka_properties: Annotated[
        str | None,
        Option(
            "--kafka-properties",
            metavar="FILE",
            help="Read more properties from a file, one per line.",
            template=FILE_OF_IMAGE,
        ),
    ] = None


@options
class RegistryOptions:
    """Where the schemas of messages are."""

    schema_registry: Annotated[
        str | None,
        Option(
            "--schema-registry",
            metavar="URL",
            help="Schema registry of messages that name their schema: Avro, Protobuf, JSON Schema.",
            template=Pattern(r"^https?://[^\s/@]+(/\S*)?$", "Give http://HOST:PORT"),
        ),
    ] = None
    schema_registry_config: Annotated[
        tuple[str, ...],
        Option(
            "--schema-registry-config",
            metavar="KEY=VALUE",
            help="A property of its client; the value may be env:NAME or file:PATH; repeatable.",
            template=Pattern(
                r"^[^=;]+=[^;]*(;[^=;]+=[^;]*)*$", "Passwords belong into a file of the image"
            ),
        ),
    ] = ()


@options
class TopicOptions(KafkaOptions, RegistryOptions):
    """The topics that are read without end."""

    kafka: Annotated[
        str | None,
        Option(
            "--kafka",
            metavar="HOST:PORT",
            help="Broker to read from.",
            template=Pattern(
                r"^[^\s,:]+:[0-9]+(,[^\s,:]+:[0-9]+)*$",
                "Give HOST:PORT, several with commas between",
            ),
        ),
    ] = None
    topic: Annotated[
        str | None,
        Option(
            "--topic",
            metavar="T",
            help="Read transactions from this topic.",
            template=TOPIC,
        ),
    ] = None
    labels_topic: Annotated[
        str | None,
        Option(
            "--labels-topic",
            metavar="T",
            help="Read labels from this topic.",
            template=TOPIC,
        ),
    ] = None
    start: Annotated[
        str,
        Option(
            "--start",
            metavar="WHERE",
            help="Start of a new stream: earliest, latest, committed or an ISO 8601 time.",
            template=Pattern(r"^(earliest|latest|committed|[0-9]{4}-[0-9]{2}-[0-9]{2}[^\s]*)$"),
        ),
    ] = "committed"

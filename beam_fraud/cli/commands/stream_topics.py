"""Check the topics of a stream; everything that needs the client library is here."""

from __future__ import annotations

from beam_fraud.cli.options import StreamOptions
from beam_fraud.records.json_records import NewestEvent
from beam_fraud.schema.schema import Schema
from beam_fraud.sources.kafka.check import topic_ids, topic_partitions
from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.sources.kafka.source import KafkaSource
from beam_fraud.sources.kafka.topic import KafkaTopic, Start
from beam_fraud.storage.checkpoint import about_topics
from beam_fraud.storage.stream_outputs import StreamOutputs


def topic_source(
    options: StreamOptions,
    settings: KafkaSettings,
    schema: Schema,
    outputs: StreamOutputs,
    *,
    here: bool,
    until_idle: float | None,
    lateness: int,
) -> KafkaSource:
    """Return the source of the topics of transactions and labels.

    Args:
      options: options of the call.
      settings: connection settings.
      schema: schema of the transactions.
      outputs: outputs of the stream.
      here: whether it runs in this process.
      until_idle: idle seconds after which it ends; None for never.
      lateness: microseconds that a row may be late.

    Raises:
      UsageError: `--start` is invalid.
      FraudError: no broker answers, or it lacks a topic.
    """
    assert options.topic is not None
    topics = [KafkaTopic(options.topic, "transactions")]
    if options.labels_topic is not None:
        topics.append(KafkaTopic(options.labels_topic, "labels"))
    partitions = [len(topic_partitions(settings, topic.name)) for topic in topics]
    return KafkaSource(
        settings=settings,
        topics=tuple(topics),
        start=Start.parse(options.start),
        newest_event=NewestEvent.of(schema),
        lateness=lateness,
        # One worker does everything here, and one mark per bundle makes the commit atomic.
        splits=1 if here else max(partitions),
        # Reordering needs each partition separately.
        together=here and options.reorder is None,
        stop_file=str(outputs.stop_file),
        until_idle=until_idle,
        checkpoint=outputs.checkpoint if here else None,
    )


def check_written_topics(options: StreamOptions, settings: KafkaSettings) -> None:
    """Check that the output topics exist.

    Raises:
      FraudError: no broker answers, or it lacks one of them.
    """
    for topic in (options.out_topic, options.dead_letter_topic):
        if topic is not None:
            topic_partitions(settings, topic)


def about_read_topics(options: StreamOptions, settings: KafkaSettings) -> dict[str, str]:
    """Return the input topics' part of the identity of a stream.

    Raises:
      FraudError: no broker answers, or it lacks one of them.
    """
    topics = [topic for topic in (options.topic, options.labels_topic) if topic is not None]
    return about_topics(topic_ids(settings, topics))

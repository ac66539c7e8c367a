"""`beam-fraud dead-letters replay --to-topic`: repaired records for a stream that runs."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beam_fraud.cli.commands.dead_letters import place
from beam_fraud.cli.commands.replay import RepairOptions, stage
from beam_fraud.errors import UsageError
from beam_fraud.monitoring.activity import doing
from beam_fraud.sinks.topic import TopicWriter
from beam_fraud.sources.kafka.check import topic_partitions
from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.sources.replayed import is_csv_source


@dataclass(frozen=True, kw_only=True)
class ReplayTopicOptions(RepairOptions):
    """Where the records are sent."""

    #: The topic that the stream reads.
    topic: str
    #: Brokers, `HOST:PORT`.
    kafka: str | None
    #: Properties of librdkafka, `KEY=VALUE`.
    kafka_config: tuple[str, ...] = ()
    #: File of more of them.
    kafka_properties: str | None = None


def run(options: ReplayTopicOptions) -> dict[str, object]:
    """Send dead letters to a topic; they are remembered once the broker has all of them.

    Killed before that, the next call sends them again: the stream knows a repeat by its id.

    Raises:
      UsageError: an option is missing, or records are no JSON.
      FraudError: the broker, the topic or the place of the dead letters refuses.
    """
    if options.kafka is None:
        raise UsageError("--to-topic: name the broker as --kafka HOST:PORT")
    letters = place(options.out, options.sink)
    properties = None if options.kafka_properties is None else Path(options.kafka_properties)
    settings = KafkaSettings.of(options.kafka, options.kafka_config, properties)
    topic_partitions(settings, options.topic)
    with tempfile.TemporaryDirectory(prefix="beam-fraud-") as directory:
        staged, counts = stage(options, letters, Path(directory))
        for source in staged.sources():
            if is_csv_source(source):
                raise UsageError(
                    f"{source}: its dead letters are lines of CSV, and a topic takes JSON; "
                    "choose others by --source, or put these through with --model"
                )
        writer, sent = TopicWriter(settings, options.topic), 0
        what, total = f"sending to topic {options.topic}", counts.offered
        with doing(what, lambda: f"{sent:,} of {total:,} records"):
            for payload in staged.payloads():
                writer.write_with_headers(payload, ())
                sent += 1
            writer.flush()
        letters.mark_replayed(staged.settled())
    return {
        "offered": counts.offered,
        "already_replayed": counts.replayed,
        "incomplete": counts.incomplete,
        "topic": options.topic,
    }


def render(result: dict[str, Any]) -> str:
    """What was sent, for a terminal."""
    return (
        f"sent {result['offered']:,} records to topic {result['topic']} "
        f"({result['already_replayed']:,} were replayed before, {result['incomplete']:,} are not "
        "whole and need a repair)"
    )

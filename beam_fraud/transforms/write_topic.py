"""Scores and dead letters to topics."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.records.messages import dead_letter_messages, scored_json
from beam_fraud.sources.kafka.settings import KafkaSettings


@dataclass
class WriteScores(beam.PTransform):
    """Scored rows to a topic, a JSON object each (`records.scored_json`).

    The key of a message is the transaction's id. When a bundle ends its messages are written; one
    that is done again writes them again, so a reader drops what it has seen of an id, or the topic
    is compacted.
    """

    #: How the broker is reached.
    settings: KafkaSettings
    #: The topic.
    topic: str

    def expand(self, scored: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """One step."""
        return scored | beam.ParDo(_WriteScores(self.settings, self.topic))


@dataclass
class WriteDeadLetters(beam.PTransform):
    """Dead letters to a topic (`records.dead_letter_messages`), written when their bundle ends.

    A bundle that is done again writes them again; `source` and `position` of the headers tell.
    """

    #: How the broker is reached.
    settings: KafkaSettings
    #: The topic.
    topic: str

    def expand(self, dead: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """One step."""
        return dead | beam.ParDo(_WriteDeadLetters(self.settings, self.topic))


class _Write(beam.DoFn):
    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic

    def start_bundle(self) -> None:
        # A new one: what a failed bundle has left behind is none of this one's.
        # Only here: streams without topics do without the client library.
        from beam_fraud.sinks.topic import TopicWriter

        self._writer = TopicWriter(self._settings, self._topic)

    def finish_bundle(self) -> None:
        self._writer.flush()


class _WriteScores(_Write):
    def process(self, scored: pa.RecordBatch) -> None:
        self._writer.write(scored_json(scored), scored.column("transaction_id").to_pylist())


class _WriteDeadLetters(_Write):
    def process(self, dead: pa.RecordBatch) -> None:
        for message in dead_letter_messages(dead):
            self._writer.write_with_headers(message.value, message.headers)

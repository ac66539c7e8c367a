"""Write scores and dead letters to topics."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.records.messages import dead_letter_messages, scored_json
from beam_fraud.sources.kafka.settings import KafkaSettings


@dataclass
class WriteScores(beam.PTransform):
    """Write scored rows to a topic, a JSON object each (`records.scored_json`).

    The key of a message is the transaction's id. Messages are written when the bundle ends; a
    repeated bundle writes them again, so a reader drops repeated ids, or the topic is compacted.
    """

    #: Connection settings.
    settings: KafkaSettings
    #: The topic.
    topic: str

    def expand(self, scored: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """One step."""
        return scored | beam.ParDo(_WriteScores(self.settings, self.topic))


@dataclass
class WriteDeadLetters(beam.PTransform):
    """Write dead letters to a topic (`records.dead_letter_messages`) at the end of a bundle.

    A repeated bundle writes them again; readers recognise repeats by the headers `source` and
    `position`.
    """

    #: Connection settings.
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
        # A new writer, without messages of a failed bundle.
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

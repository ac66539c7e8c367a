"""Write scores and dead letters to topics."""

from __future__ import annotations

import json
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.records.messages import (
    SCORED_AVRO,
    OutForm,
    dead_letter_messages,
    scored_avro,
    scored_json,
)
from beam_fraud.sources.kafka.registry import RegistrySettings, registry_of
from beam_fraud.sources.kafka.settings import KafkaSettings


@dataclass
class WriteScores(beam.PTransform):
    """Write scored rows to a topic, a JSON object or an Avro record each (`records.messages`).

    The key of a message is the transaction's id. Messages are written when the bundle ends; a
    repeated bundle writes them again, so a reader drops repeated ids, or the topic is compacted.
    """

    #: Connection settings.
    settings: KafkaSettings
    #: The topic.
    topic: str
    #: Form of the messages.
    form: OutForm = "json"
    #: Schema registry that takes the schema of Avro; None for JSON.
    registry: RegistrySettings | None = None

    def expand(self, scored: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """Write scores."""
        registry = self.registry if self.form == "avro" else None
        return scored | beam.ParDo(_WriteScores(self.settings, self.topic, registry))


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
        """Write dead letters."""
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
    def __init__(
        self, settings: KafkaSettings, topic: str, registry: RegistrySettings | None
    ) -> None:
        super().__init__(settings, topic)
        self._registry = registry

    def process(self, scored: pa.RecordBatch) -> None:
        if self._registry is None:
            values = scored_json(scored)
        else:
            values = scored_avro(scored, _number_of_schema(self._registry, self._topic))
        self._writer.write(values, scored.column("transaction_id").to_pylist())


def _number_of_schema(registry: RegistrySettings, topic: str) -> int:
    """Return the number of the schema of scores, which the first call registers."""
    name = f"{SCORED_AVRO['namespace']}.{SCORED_AVRO['name']}"
    return registry_of(registry).number_of(topic, name, json.dumps(SCORED_AVRO))


class _WriteDeadLetters(_Write):
    def process(self, dead: pa.RecordBatch) -> None:
        for message in dead_letter_messages(dead):
            self._writer.write_with_headers(message.value, message.headers)

"""Messages are in their topic when the bundle ends, whatever happens to the broker."""

from __future__ import annotations

import json
import logging
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest

from beam_fraud.errors import FraudError, UsageError
from beam_fraud.records.labels import read_labels
from beam_fraud.runners.submission import Submission
from beam_fraud.schema.stages import DEAD_LETTER
from beam_fraud.sinks import topic as patience
from beam_fraud.sinks import topic as topic_module
from beam_fraud.sinks.labels import write_labels
from beam_fraud.sinks.topic import TopicProducer, TopicWriter
from beam_fraud.sources.kafka.client import Reports, new_producer
from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.sources.raw import PAYLOAD, POSITION, Origin, with_origin
from beam_fraud.storage.database.connection import prepare_database, sqlite_url
from beam_fraud.transforms.write_topic import WriteDeadLetters, WriteScores
from deploy.kafka.broker import Broker
from deploy.ports import free_port
from tests.flagged import flagged_batch
from tests.integration.kafka import produce, read_all
from tests.requirements import need_kafka

pytestmark = pytest.mark.slow

Topic = Callable[..., str]


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that the test may stop."""
    need_kafka()
    with Broker(tmp_path / "kafka") as running:
        yield running


def write(writer: TopicWriter, value: bytes) -> None:
    writer.write([value], ["key"])
    writer.flush()


def write_with_headers(writer: TopicWriter, value: bytes) -> None:
    writer.write_with_headers(value, [("reason", "r")])
    writer.flush()


def values_of(broker: Broker, name: str) -> list[bytes]:
    return [message.value() for message in read_all(broker, name)]


def test_flushed_messages_are_there_in_order_and_by_key(broker: Broker, topic: Topic) -> None:
    name = topic(partitions=3)
    values = [b"%d" % number for number in range(25_000)]
    keys = [f"key {number % 50}" for number in range(25_000)]
    writer = TopicWriter(KafkaSettings(broker.bootstrap), name)
    for start in range(0, len(values), 1_000):
        writer.write(values[start : start + 1_000], keys[start : start + 1_000])
    writer.flush()
    result = read_all(broker, name)
    assert sorted(int(message.value()) for message in result) == list(range(25_000))
    partitions: dict[bytes, set[int]] = {}
    order: dict[int, list[int]] = {}
    for message in result:
        partitions.setdefault(message.key(), set()).add(message.partition())
        order.setdefault(message.partition(), []).append(int(message.value()))
    assert len(partitions) == 50
    assert all(len(of_key) == 1 for of_key in partitions.values())
    assert all(numbers == sorted(numbers) for numbers in order.values())


def test_messages_beyond_the_producers_queue_wait_in_order(broker: Broker, topic: Topic) -> None:
    name = topic()
    small = KafkaSettings(broker.bootstrap, (("queue.buffering.max.messages", "100"),))
    writer = TopicWriter(small, name)
    values = [b"%d" % number for number in range(5_300)]
    writer.write(values[:5_000], ["k"] * 5_000)
    for value in values[5_000:]:
        writer.write_with_headers(value, [("reason", "r")])
    writer.flush()
    assert values_of(broker, name) == values


def test_a_connection_is_reused(broker: Broker, topic: Topic) -> None:
    settings = KafkaSettings(broker.bootstrap, (("client.id", "again"),))
    for name in (topic(), topic()):
        writer = TopicWriter(settings, name)
        for _ in range(3):
            write(writer, b"value")
            writer.flush()
        assert values_of(broker, name) == [b"value"] * 3
    assert len(topic_module._idle[settings]) == 1


@pytest.mark.parametrize("limit", ["broker", "producer"])
def test_a_message_that_is_too_large_is_one_line(broker: Broker, topic: Topic, limit: str) -> None:
    name = topic(config={"max.message.bytes": "50000"} if limit == "broker" else None)
    size = 60_000 if limit == "broker" else 2_000_000
    value = random.Random(1).randbytes(size)
    for kind in (write, write_with_headers):
        with pytest.raises(FraudError) as refused:
            kind(TopicWriter(KafkaSettings(broker.bootstrap), name), value)
        assert str(refused.value) == (
            f"Kafka {broker.bootstrap}: topic '{name}': a message of {size:,} bytes is too large; "
            "raise max.message.bytes of the topic, and message.max.bytes by --kafka-config"
        )
    write(TopicWriter(KafkaSettings(broker.bootstrap), name), b"small")
    assert values_of(broker, name) == [b"small"]


def test_an_unknown_topic_is_one_line(broker: Broker) -> None:
    soon = KafkaSettings(broker.bootstrap, (("topic.metadata.propagation.max.ms", "500"),))
    writer = TopicWriter(soon, "nowhere")
    with pytest.raises(FraudError, match=r"topic 'nowhere': it is not there, .*create"):
        write(writer, b"value")
    assert "nowhere" not in broker.topics()


def test_an_unknown_property_is_a_wrong_call() -> None:
    writer = TopicWriter(KafkaSettings("127.0.0.1:9", (("no.such", "1"),)), "t")
    with pytest.raises(UsageError, match=r'^--kafka-config: .*"no\.such"'):
        write(writer, b"value")


def test_a_refused_login_is_one_line(tmp_path: Path) -> None:
    need_kafka()
    with Broker(tmp_path / "kafka", sasl={"alice": "s3cret"}) as guarded:
        guarded.create_topic("t")
        right, wrong = tmp_path / "right", tmp_path / "wrong"
        right.write_text("".join(f"{key}={value}\n" for key, value in guarded.client.items()))
        wrong.write_text(right.read_text().replace("s3cret", "guess"))
        writer = TopicWriter(KafkaSettings.of(guarded.bootstrap, (), wrong), "t")
        with pytest.raises(FraudError, match="the login was refused") as refused:
            write(writer, b"value")
        assert "guess" not in str(refused.value)
        write(TopicWriter(KafkaSettings.of(guarded.bootstrap, (), right), "t"), b"value")


def test_while_the_broker_is_down_a_writer_waits_and_reports_it_once(
    own_broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, patience.__name__)
    own_broker.create_topic("t")
    writer = TopicWriter(KafkaSettings(own_broker.bootstrap), "t")
    write(writer, b"before")
    own_broker.kill()
    monkeypatch.setattr(patience, "SILENT_SECONDS", 0.5)
    writer.write([b"%d" % number for number in range(1_000)], ["key"] * 1_000)
    flushing = threading.Thread(target=writer.flush)
    flushing.start()
    while not caplog.messages:
        flushing.join(0.05)
        assert flushing.is_alive()
    own_broker.start()
    flushing.join(60)
    assert not flushing.is_alive()
    expected = [b"before", *(b"%d" % number for number in range(1_000))]
    assert values_of(own_broker, "t") == expected
    away, back = caplog.messages
    assert away == f"Kafka {own_broker.bootstrap}: no answer; 1,000 messages wait for the broker"
    assert back.startswith(f"Kafka {own_broker.bootstrap}: the broker has taken all messages after")


def test_a_producer_that_has_lost_its_brokers_is_replaced(
    broker: Broker, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, nowhere = topic(partitions=3), KafkaSettings(f"127.0.0.1:{free_port()}")
    monkeypatch.setattr(patience, "SILENT_SECONDS", 0.5)
    producer = TopicProducer(KafkaSettings(broker.bootstrap))
    # librdkafka's own loss of all brokers is a race of microseconds.
    producer._kafka = new_producer(nowhere, Reports())
    values = [b"%d" % number for number in range(1_000)]
    producer.write_all(name, [{"value": value, "key": b"key"} for value in values])
    producer.write(name, b"last", [("about", "this")])
    producer.flush()
    records = read_all(broker, name)
    assert [record.value() for record in records if record.key()] == values
    (last,) = (record for record in records if not record.key())
    assert (last.value(), last.headers()) == (b"last", [("about", b"this")])


def test_the_graph_writes_scores_and_dead_letters(
    broker: Broker, topic: Topic, beam_args: tuple[str, ...]
) -> None:
    scores, dead = topic(partitions=2), topic()
    settings = KafkaSettings(broker.bootstrap)
    scored = [flagged_batch(["t0", "t1"]), flagged_batch([]), flagged_batch(["t2"])]
    letter = {
        "source": "transactions:1",
        "position": 5,
        "reason": "malformed",
        "detail": None,
        "payload": b"\xff" * 1_500_000,
    }
    letters = [pa.RecordBatch.from_pylist([letter], DEAD_LETTER)]
    with beam.Pipeline(options=Submission.of(beam_args, 1).options) as pipeline:
        _ = pipeline | "Scored" >> beam.Create(scored) | WriteScores(settings, scores)
        _ = pipeline | "Dead" >> beam.Create(letters) | WriteDeadLetters(settings, dead)
    result = {message.key(): json.loads(message.value()) for message in read_all(broker, scores)}
    assert {key.decode(): row["transaction_id"] for key, row in result.items()} == {
        name: name for name in ("t0", "t1", "t2")
    }
    (message,) = read_all(broker, dead)
    assert message.value() == b"\xff" * 900_000
    assert dict(message.headers()) == {
        "source": b"transactions:1",
        "position": b"5",
        "reason": b"malformed",
        "detail": b"",
        "truncated": b"1500000",
    }


def test_labels_of_a_topic_reach_the_database_once(
    broker: Broker, topic: Topic, tmp_path: Path
) -> None:
    name, file = topic(), tmp_path / "flagged.db"
    label = {
        "transaction_id": "t1",
        "event_time": "2024-05-01T12:00:00Z",
        "label": 1,
        "labelled_at": "2024-05-03T09:30:00Z",
    }
    newer = {**label, "label": 0, "labelled_at": "2024-05-04T00:00:00Z", "labelled_by": "eve"}
    produce(broker, name, [json.dumps(label).encode(), b"no label", json.dumps(newer).encode()])
    messages = read_all(broker, name)
    described = pa.schema([pa.field(POSITION, pa.int64()), pa.field(PAYLOAD, pa.binary())])
    raw = pa.RecordBatch.from_arrays(
        [pa.array([m.offset() for m in messages]), pa.array([m.value() for m in messages])],
        schema=with_origin(described, Origin(f"{name}:0", "jsonl", content="labels")),
    )
    labels, dead = read_labels(raw)
    prepare_database(sqlite_url(file))
    for _ in range(2):
        write_labels(sqlite_url(file), labels)
    with sqlite3.connect(file) as connection:
        latest = connection.execute("SELECT transaction_id, label FROM latest_labels").fetchall()
        stored = connection.execute("SELECT count(*) FROM labels").fetchone()
    assert (latest, stored) == ([("t1", 0)], (2,))
    assert dead["position"].to_pylist() == [1]

"""Topics of a real broker, read through a pipeline on the local runner."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any

import pytest
from apache_beam.utils.timestamp import MAX_TIMESTAMP
from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewPartitions

from beam_fraud.errors import FraudError, fraud_error_in
from beam_fraud.records.json_records import NewestEvent
from beam_fraud.sources.kafka import assignment, batches, feed
from beam_fraud.sources.kafka import source as source_module
from beam_fraud.sources.kafka.client import Reports, new_consumer
from beam_fraud.sources.kafka.feed import Feed
from beam_fraud.sources.kafka.position import Reading, lags
from beam_fraud.sources.kafka.reader import POOL
from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.sources.kafka.source import KafkaSource
from beam_fraud.sources.kafka.topic import EARLIEST, KafkaTopic, Partition, Start
from beam_fraud.sources.raw import PAYLOAD
from beam_fraud.storage.checkpoint import LocalCheckpoint
from beam_fraud.transforms.counters import read_counters
from deploy.kafka.broker import Broker
from deploy.ports import free_port
from tests.integration.kafka import produce
from tests.requirements import need_kafka
from tests.streaming import collected, payloads, read_stream, streaming, wait_until

pytestmark = pytest.mark.slow

HOSTILE = [b"", b"\x00", b"\xff\xfe{", b'{"id": 1}\r\n', "é😀".encode(), b"[" * 5_000]


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that the test may stop."""
    need_kafka()
    with Broker(tmp_path / "kafka") as broker:
        yield broker


def source_of(broker: Broker, *topics: str, **options: Any) -> KafkaSource:
    read = tuple(KafkaTopic(name) for name in topics)
    return KafkaSource(KafkaSettings.of(broker.bootstrap), read, until_idle=1.0, **options)


def numbers(begin: int, end: int) -> list[bytes]:
    return [b'{"id": %d}' % number for number in range(begin, end)]


def committed(broker: Broker, group: str, topic: str, partition: int = 0) -> int:
    consumer = Consumer({**broker.client, "group.id": group})
    try:
        (result,) = consumer.committed([TopicPartition(topic, partition)], timeout=10)
        return int(result.offset)
    finally:
        consumer.close()


def test_all_messages_come_once_and_in_the_order_of_their_partition(
    broker: Broker, topic: Callable[..., str], tmp_path: Path
) -> None:
    name = topic(partitions=4)
    values = [*HOSTILE, *numbers(0, 30_000)]
    produce(broker, name, values, keys=(b"%d" % (number % 97) for number in range(len(values))))
    result = read_stream(source_of(broker, name), tmp_path / "out")
    actual = collected(tmp_path / "out")
    assert sorted(actual) == [f"{name}:{number}" for number in range(4)]
    assert payloads(tmp_path / "out") == sorted(values)
    for rows in actual.values():
        assert [position for position, _ in rows] == list(range(len(rows)))
    assert read_counters(result) == {"rows_in": len(values)}
    assert lags()[f"{name}:0"] == (len(actual[f"{name}:0"]),) * 2


def test_a_large_message_passes_untouched(
    broker: Broker, topic: Callable[..., str], tmp_path: Path
) -> None:
    name = topic(config={"max.message.bytes": "20000000"})
    large = bytes(range(256)) * 40_000
    produce(broker, name, [b"before", large, b"after"])
    read_stream(source_of(broker, name), tmp_path / "out")
    assert [value for _, value in collected(tmp_path / "out")[f"{name}:0"]] == [
        b"before",
        large,
        b"after",
    ]


def test_no_more_large_messages_are_taken_at_a_time_than_fit(
    broker: Broker, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic(config={"max.message.bytes": "20000000"})
    sent = [bytes([number]) * 10_000_000 for number in range(8)]
    produce(broker, name, [*sent, *numbers(0, 5_000)])
    monkeypatch.setattr(batches, "LARGE", 25_000_000)
    monkeypatch.setattr(feed, "LARGE", 25_000_000)
    # Messages come one by one, as they may from a fast broker while others are taken.
    monkeypatch.setattr(feed, "_BLOCK", 1)
    reader = source_of(broker, name).create_reader(None, None)
    try:
        result: list[bytes] = []
        while len(result) < len(sent) + 5_000:
            if not reader.advance():
                continue
            payload = reader.get_current().column(PAYLOAD)
            assert payload.nbytes < 26_000_000
            assert sum(chunk.batch.nbytes for chunk in reader._feed._ahead) < 36_000_000
            result += payload.to_pylist()
            reader.get_checkpoint_mark()
    finally:
        reader._feed.close()
    assert result == [*sent, *numbers(0, 5_000)]


def test_labels_come_through_the_same_source_and_are_counted_apart(
    broker: Broker, topic: Callable[..., str], tmp_path: Path
) -> None:
    transactions, labels = topic(partitions=2), topic()
    produce(broker, transactions, numbers(0, 100))
    produce(broker, labels, numbers(0, 10))
    source = replace(
        source_of(broker, transactions),
        topics=(KafkaTopic(transactions), KafkaTopic(labels, "labels")),
    )
    result = read_stream(source, tmp_path / "out")
    assert read_counters(result) == {"rows_in": 100, "labels_in": 10}


def test_a_stream_resumes_from_its_checkpoint(
    broker: Broker, topic: Callable[..., str], tmp_path: Path
) -> None:
    name = topic(partitions=2)
    produce(broker, name, numbers(0, 5_000))
    checkpoint = tmp_path / "stream/state.db"
    source = source_of(broker, name, checkpoint=checkpoint)
    read_stream(source, tmp_path / "first")
    stored = {key: int(value) for key, value in LocalCheckpoint.at(checkpoint).positions().items()}
    assert sum(stored.values()) == 5_000
    produce(broker, name, numbers(5_000, 6_000))
    # The group is not asked: what is in the checkpoint counts.
    resumed = replace(source, positions=stored, start=Start("latest"))
    read_stream(resumed, tmp_path / "second")
    assert payloads(tmp_path / "second") == sorted(numbers(5_000, 6_000))


def test_without_positions_the_start_option_applies(
    broker: Broker, topic: Callable[..., str], tmp_path: Path
) -> None:
    name = topic(partitions=2)
    moment = datetime(2024, 5, 1, tzinfo=UTC)
    millis = int(moment.timestamp() * 1000)
    produce(broker, name, numbers(0, 10), timestamps=range(millis, millis + 10), partition=0)

    def read(start: Start, out: str) -> list[bytes]:
        read_stream(replace(source_of(broker, name), start=start), tmp_path / out)
        return payloads(tmp_path / out)

    assert read(Start("committed"), "none committed") == sorted(numbers(0, 10))
    at = datetime.fromtimestamp((millis + 7) / 1000, UTC)
    assert read(Start("time", at), "time") == sorted(numbers(7, 10))
    assert read(Start("time", datetime(2100, 1, 1, tzinfo=UTC)), "later") == []
    group = f"group-of-{name}"
    settings = KafkaSettings.of(broker.bootstrap, [f"group.id={group}"])
    source = replace(source_of(broker, name), settings=settings)
    with streaming(replace(source, start=Start("latest"), until_idle=None), tmp_path / "latest"):
        # It commits where it begins.
        wait_until(lambda: committed(broker, group, name, 1) == 0, "a position at the start")
        produce(broker, name, numbers(10, 12), partition=1)
        wait_until(lambda: len(payloads(tmp_path / "latest")) == 2, "the new messages")
    assert payloads(tmp_path / "latest") == numbers(10, 12)
    produce(broker, name, numbers(12, 13), partition=0)
    read_stream(replace(source, start=Start("committed")), tmp_path / "committed")
    assert payloads(tmp_path / "committed") == numbers(12, 13)


def test_the_group_commits_durable_offsets_only(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic()
    produce(broker, name, numbers(0, 100))
    source = source_of(broker, name)
    reader = source.create_reader(None, None)
    while not reader.advance():
        pass
    mark = reader.get_checkpoint_mark()
    assert mark.positions == {f"{name}:0": 100}
    assert committed(broker, source.group, name) == OFFSET_INVALID
    mark.finalize_checkpoint()
    wait_until(lambda: committed(broker, source.group, name) == 100, "the commit")
    reader.close()


def test_a_new_reader_takes_over_what_the_last_one_had_read_ahead(
    broker: Broker, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic(partitions=2)
    produce(broker, name, numbers(0, 2_000))
    made: list[Feed] = []

    class CountedFeed(Feed):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(source_module, "Feed", CountedFeed)
    source = source_of(broker, name, micro_batch=100)
    mark, rows, middle = None, 0, None
    while rows < 2_000:
        reader = source.create_reader(None, mark)
        if reader.advance():
            rows += len(reader.get_current())
        mark = reader.get_checkpoint_mark()
        reader.close()
        middle = middle or (rows >= 1_000 and (rows, mark)) or None
    assert len(made) == 1
    assert middle is not None
    # A runner that has failed goes back to an earlier mark: what was read since comes again.
    rows, mark = middle
    reader = source.create_reader(None, mark)
    while rows < 2_000:
        if reader.advance():
            rows += len(reader.get_current())
    assert rows == 2_000
    assert len(made) == 2
    assert made[0].closed
    reader.close()
    POOL.close_all()
    assert made[1].closed


def test_a_pipeline_makes_one_consumer(
    broker: Broker, topic: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic()
    made: list[Feed] = []

    class CountedFeed(Feed):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(source_module, "Feed", CountedFeed)
    source = source_of(broker, name, newest_event=NewestEvent("id"), positions={f"{name}:0": 0})
    with streaming(source, tmp_path / "out"):
        for number in range(3):
            produce(broker, name, numbers(number, number + 1))
            wait_until(lambda: len(payloads(tmp_path / "out")) > number, "a message")  # noqa: B023
    assert len(made) == 1
    assert made[0].closed


def test_sub_sources_read_every_partition_once(
    broker: Broker, topic: Callable[..., str], tmp_path: Path
) -> None:
    name = topic(partitions=5)
    produce(broker, name, numbers(0, 1_000))
    result: list[bytes] = []
    for part in source_of(broker, name, splits=3).split(20):
        reader = part.create_reader(None, None)
        while reader.get_watermark() < MAX_TIMESTAMP:
            if reader.advance():
                result += reader.get_current().column("@payload").to_pylist()
        reader.close()
    assert sorted(result) == sorted(numbers(0, 1_000))


def test_a_partition_that_is_new_is_read_from_its_first_message(
    broker: Broker, topic: Callable[..., str], tmp_path: Path
) -> None:
    name = topic()
    produce(broker, name, numbers(0, 1))
    source = source_of(broker, name, discover_seconds=0.2, start=Start("latest"))
    source = replace(source, until_idle=None)
    admin = AdminClient(broker.client)
    with streaming(source, tmp_path / "out"):
        wait_until(lambda: committed(broker, source.group, name) == 1, "the start")
        admin.create_partitions([NewPartitions(name, 2)])[name].result(10)
        wait_until(lambda: broker.topics()[name] == 2, "the partition")
        produce(broker, name, numbers(1, 3), partition=1)
        wait_until(lambda: len(payloads(tmp_path / "out")) == 2, "the messages of the partition")
    # One that was made while the stream stood still is new as well.
    admin.create_partitions([NewPartitions(name, 3)])[name].result(10)
    wait_until(lambda: broker.topics()[name] == 3, "the partition")
    produce(broker, name, numbers(3, 5), partition=2)
    again = replace(source, positions={f"{name}:0": 1, f"{name}:1": 2}, until_idle=1.0)
    read_stream(again, tmp_path / "again")
    assert payloads(tmp_path / "again") == numbers(3, 5)


def test_a_broker_restart_loses_nothing(
    own_broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "beam_fraud.sources.kafka")
    own_broker.create_topic("t", 2)
    produce(own_broker, "t", numbers(0, 100))
    source = replace(source_of(own_broker, "t"), checkpoint=tmp_path / "state.db", until_idle=2.0)
    with streaming(source, tmp_path / "out"):
        wait_until(lambda: len(payloads(tmp_path / "out")) == 100, "the first messages")
        own_broker.stop()
        wait_until(lambda: "not reachable" in caplog.text, "the warning")
        # Longer than the stream would wait for messages of a broker that answers.
        time.sleep(3)
        own_broker.start()
        produce(own_broker, "t", numbers(100, 200))
        wait_until(lambda: len(payloads(tmp_path / "out")) == 200, "the messages after it")
    message = [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG]
    away, back = [line for line in message if "Kafka" in line]
    assert away == f"Kafka {own_broker.bootstrap}: the broker is not reachable"
    assert back.startswith(f"Kafka {own_broker.bootstrap}: the broker is back after ")
    assert payloads(tmp_path / "out") == sorted(numbers(0, 200))


def test_a_consumer_that_has_lost_its_brokers_is_replaced(
    broker: Broker,
    topic: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "beam_fraud.sources.kafka")
    monkeypatch.setattr(assignment, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(assignment, "LOST_SECONDS", 0.5)
    name, nowhere = topic(partitions=2), KafkaSettings(f"127.0.0.1:{free_port()}")
    produce(broker, name, numbers(0, 100))
    reader = replace(source_of(broker, name), until_idle=None).create_reader(None, None)
    payload: list[bytes] = []

    def read() -> int:
        if reader.advance():
            payload.extend(reader.get_current().column(PAYLOAD).to_pylist())
        reader.get_checkpoint_mark().finalize_checkpoint()
        return len(payload)

    wait_until(lambda: read() == 100, "the first messages")
    # librdkafka's own loss of all brokers is a race of microseconds.
    reader._feed._consumer = new_consumer(nowhere, "g", Reports())
    produce(broker, name, numbers(100, 200))
    wait_until(lambda: read() == 200, "the messages after the loss")
    assert sorted(payload) == sorted(numbers(0, 200))
    assert "the broker is back after" in caplog.messages[-1]
    reader._feed.close()


@pytest.mark.soak
def test_consumers_read_on_after_every_restart_of_the_broker(own_broker: Broker) -> None:
    own_broker.create_topic("t", 4)
    topics = (KafkaTopic("t"),)
    reading = Reading(KafkaSettings(own_broker.bootstrap), topics, "g", EARLIEST, 100, 30.0)
    consumers, restarts, read = 12, 15, Event()
    positions: list[dict[str, int]] = [{} for _ in range(consumers)]

    def consume(number: int) -> None:
        consumer = Feed(reading, None, {})
        while not read.is_set():
            consumer.next(0.1)
            positions[number] = consumer.positions
        consumer.close()

    threads = [Thread(target=consume, args=(number,)) for number in range(consumers)]
    for thread in threads:
        thread.start()
    try:
        for sent in range(100, 100 * restarts + 1, 100):
            produce(own_broker, "t", numbers(0, 100))
            wait_until(lambda: {sum(each.values()) for each in positions} == {sent}, "all")  # noqa: B023
            own_broker.stop()
            own_broker.start()
    finally:
        read.set()
        for thread in threads:
            thread.join()


def test_a_broker_that_does_not_know_its_topics_yet_is_asked_again(
    own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_offsets, failures = assignment.first_offsets, [KafkaError.UNKNOWN_TOPIC_OR_PART] * 2

    def fail_first(*request: Any) -> dict[Partition, int]:
        if failures:
            raise KafkaException(KafkaError(failures.pop()))
        return first_offsets(*request)

    monkeypatch.setattr(assignment, "first_offsets", fail_first)
    creation = Timer(0.5, own_broker.create_topic, ["t"])
    creation.start()
    try:
        reader = source_of(own_broker, "t").create_reader(None, None)
    finally:
        creation.join()
    produce(own_broker, "t", numbers(0, 1))
    wait_until(reader.advance, "the first message")
    reader.close()


def test_messages_that_the_broker_has_deleted_are_reported_once(
    broker: Broker, topic: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = topic()
    produce(broker, name, numbers(0, 20))
    admin = AdminClient(broker.client)
    (deleted,) = admin.delete_records([TopicPartition(name, 0, 12)]).values()
    deleted.result(10)
    source = replace(source_of(broker, name), positions={f"{name}:0": 5})
    read_stream(source, tmp_path / "deleted")
    assert payloads(tmp_path / "deleted") == numbers(12, 20)
    lines = [line for line in caplog.messages if "nothing is at offset 5" in line]
    assert len(lines) == 1
    assert "deleted 7 messages before they were read; reading on from 12" in lines[0]
    read_stream(replace(source, positions={f"{name}:0": 1_000}), tmp_path / "beyond")
    assert payloads(tmp_path / "beyond") == numbers(12, 20)
    assert "at offset 1000: the topic was made anew or has lost messages" in caplog.text
    (deleted,) = admin.delete_records([TopicPartition(name, 0, 20)]).values()
    deleted.result(10)
    read_stream(source, tmp_path / "nothing")
    assert payloads(tmp_path / "nothing") == []
    assert lags()[f"{name}:0"] == (20, 20)


def test_a_topic_that_is_deleted_ends_the_stream(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic()
    produce(broker, name, numbers(0, 1))
    source = replace(source_of(broker, name, discover_seconds=0.1), until_idle=None)
    reader = source.create_reader(None, None)
    wait_until(reader.advance, "the first message")
    admin = AdminClient(broker.client)
    admin.delete_topics([name])[name].result(10)
    with pytest.raises(FraudError, match=f"topic '{name}': it is not there, or no longer"):
        wait_until(reader.advance, "the end of the topic")
    reader.close()


def test_a_checkpoint_that_cannot_be_written_ends_the_stream(
    broker: Broker,
    topic: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = topic()
    produce(broker, name, numbers(0, 10))
    path = tmp_path / "state.db"
    LocalCheckpoint.at(path)._execute("DROP TABLE positions")
    source = replace(source_of(broker, name, checkpoint=path), until_idle=None)
    with pytest.raises(Exception, match="state cannot be written") as raised:
        read_stream(source, tmp_path / "out")
    assert isinstance(fraud_error_in(raised.value), FraudError)
    assert committed(broker, source.group, name) == OFFSET_INVALID, "not before the checkpoint"


def test_the_watermark_follows_the_newest_event(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic()
    at = 1_700_000_000
    produce(broker, name, [b'{"at": %d}' % (at + 5), b'{"at": %d}' % (at + 60), b"rubbish"])
    source = source_of(broker, name, newest_event=NewestEvent("at"), lateness=10_000_000)
    reader = replace(source, micro_batch=2).create_reader(None, None)
    while not reader.advance():
        pass
    assert reader.get_watermark().micros == (at + 50) * 1_000_000
    assert reader.get_current_timestamp().micros == (at + 60) * 1_000_000
    while not reader.advance():
        pass
    assert reader.get_watermark().micros == (at + 50) * 1_000_000
    reader.close()

"""A back-filled topic has every scored row exactly once, whatever interrupts the back-fill."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from beam_fraud.errors import Code
from beam_fraud.pipeline.rescore import backfill as module
from beam_fraud.sinks import transactions
from beam_fraud.sinks.transactions import TopicTransactions
from beam_fraud.sources.kafka.client import Reports, new_consumer, new_producer
from beam_fraud.sources.kafka.settings import KafkaSettings
from deploy.kafka.broker import Broker
from deploy.ports import free_port
from tests.failing import fails
from tests.pipeline.test_rescore_backfill import Archive

pytestmark = pytest.mark.slow


def committed_ids(broker: Broker, topic: str) -> list[str]:
    """Return the ids of all messages of committed transactions."""
    consumer = Consumer(
        {
            **broker.client,
            "group.id": "reader",
            "isolation.level": "read_committed",
            # Before a transaction that is still open, where a killed process leaves one.
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    ids: list[str] = []
    ended = False
    while not ended:
        for message in consumer.consume(100, 0.2):
            if (error := message.error()) is not None:
                assert error.code() == KafkaError._PARTITION_EOF
                ended = True
                continue
            ids.append(json.loads(message.value())["transaction_id"])
            assert message.key().decode() == ids[-1]
    consumer.close()
    return ids


class _KilledError(Exception):
    """Stands for the end of the process."""


def test_a_killed_back_fill_goes_on_behind_its_last_transaction(
    broker: Broker,
    topic: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, archive = topic(), Archive(tmp_path)
    rows = {f"day-{day}": [f"{day}-{row}" for row in range(25)] for day in range(3)}
    for day, ids in rows.items():
        archive.score(day, ids)
    plan = archive.plan(kafka=broker.bootstrap, out_topic=name, max_rows_per_second=60.0)
    real, left = module.TopicTransactions.write, [0]

    def dies(self: module.TopicTransactions, values, keys, position) -> None:
        left[0] -= 1
        if left[0] == 0:
            # Messages are sent, and their transaction stays open.
            self._producer.begin_transaction()
            self._producer.produce(self._topic, b"open")
            self._producer.flush(10)
            raise _KilledError
        real(self, values, keys, position)
        if left[0] == 100:
            raise _KilledError

    monkeypatch.setattr(module.TopicTransactions, "write", dies)
    # Before a transaction is complete, and after one that no file records yet.
    for at in (3, 101, 5, 101):
        left[0] = at
        with pytest.raises(_KilledError):
            archive.backfill(plan)
    left[0] = -1
    [sent] = archive.backfill(plan)["backfill"].values()  # type: ignore[attr-defined]
    assert committed_ids(broker, name) == [one for ids in rows.values() for one in ids]
    assert sent > 0
    [again] = archive.backfill(plan)["backfill"].values()  # type: ignore[attr-defined]
    assert again == 0


@pytest.mark.parametrize("lost", ["producer", "group", "producer after its commit"])
def test_a_writer_that_has_lost_its_brokers_connects_again(
    broker: Broker, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    name, nowhere = topic(), KafkaSettings(f"127.0.0.1:{free_port()}")
    monkeypatch.setattr(transactions, "_SECONDS", 1.0)
    monkeypatch.setattr(transactions, "_COMPARE_SECONDS", 1.0)
    values = [b'{"transaction_id": "%d"}' % number for number in range(4)]
    keys = ["0", "1", "2", "3"]
    writer = TopicTransactions(KafkaSettings(broker.bootstrap), name, f"writer-of-{name}")
    writer.write(values[:2], keys[:2], 2)
    # librdkafka's own loss of all brokers is a race of microseconds.
    if lost == "group":
        writer._group = new_consumer(nowhere, "g", Reports())
    else:
        if lost == "producer after its commit":
            writer.write(values[2:], keys[2:], 4)
        writer._producer = _LosesBrokers(writer._producer, nowhere)  # type: ignore[assignment]
    assert writer.position() == (4 if "commit" in lost else 2)
    writer.write(values[2:], keys[2:], 4)
    assert committed_ids(broker, name) == keys
    assert writer.position() == 4
    writer.close()


def test_a_writer_without_connection_takes_nothing_back_from_its_successor(
    broker: Broker, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, nowhere = topic(), KafkaSettings(f"127.0.0.1:{free_port()}")
    monkeypatch.setattr(transactions, "_SECONDS", 1.0)
    monkeypatch.setattr(transactions, "_COMPARE_SECONDS", 1.0)
    values = [b'{"transaction_id": "%d"}' % number for number in range(4)]
    writer, successor = (
        TopicTransactions(KafkaSettings(broker.bootstrap), name, f"writer-of-{name}")
        for _ in range(2)
    )
    assert successor.position() is None
    successor.write(values[:1], ["0"], 1)
    successor.write(values[1:3], ["1", "2"], 3)
    writer._last = 1
    writer._producer = _LosesBrokers(writer._producer, nowhere)  # type: ignore[assignment]
    monkeypatch.setattr(writer._producer, "begin_transaction", lambda: None, raising=False)
    monkeypatch.setattr(writer._producer, "produce_batch", lambda *_, **__: 1, raising=False)
    with fails(Code.TOPIC_FAILED, "another run has gone on"):
        writer.write(values[1:2], ["1"], 2)
    assert committed_ids(broker, name) == ["0", "1", "2"]
    writer.close()
    successor.close()


class _LosesBrokers:
    """A producer in a transaction whose connection is another one's, to no broker."""

    def __init__(self, real: Any, nowhere: KafkaSettings) -> None:
        self._real, self._lost = real, new_producer(nowhere, Reports())

    def __getattr__(self, name: str) -> Any:
        if name in ("send_offsets_to_transaction", "commit_transaction"):

            def silent(*_: object) -> None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

            return silent
        return getattr(self._lost if name == "list_topics" else self._real, name)

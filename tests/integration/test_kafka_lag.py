"""Lag and positions in topics with offsets that hold no message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer

from beam_fraud.sources.kafka.position import lags
from beam_fraud.storage.checkpoint import LocalCheckpoint
from deploy.kafka.broker import Broker
from tests.integration.test_kafka_source import committed, numbers, source_of
from tests.streaming import payloads, read_stream

pytestmark = pytest.mark.slow


def transact(broker: Broker, topic: str, values: list[bytes], *, commit: bool = True) -> None:
    """Write messages in one transaction, whose marker takes an offset after them."""
    producer = Producer({**broker.client, "transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=0)
    if commit:
        producer.commit_transaction(30)
    else:
        # What was not sent yet would be aborted without an offset.
        producer.flush(30)
        producer.abort_transaction(30)


def test_a_topic_of_transactions_has_no_lag_once_all_is_read(
    broker: Broker, topic: Callable[..., str], tmp_path: Path
) -> None:
    name, checkpoint = topic(), tmp_path / "stream/state.db"
    source = source_of(broker, name, checkpoint=checkpoint)
    transact(broker, name, numbers(0, 10))
    transact(broker, name, numbers(10, 15), commit=False)
    read_stream(source, tmp_path / "first")
    assert payloads(tmp_path / "first") == numbers(0, 10)
    # Ten messages, five that were aborted, and a marker for each transaction.
    assert lags()[f"{name}:0"] == (17, 17)
    assert LocalCheckpoint.at(checkpoint).positions() == {f"{name}:0": "17"}
    assert committed(broker, source.group, name) == 17
    # A stream that earlier stopped behind its last message starts at the end.
    resumed = replace(source, positions={f"{name}:0": 10})
    read_stream(resumed, tmp_path / "again")
    assert payloads(tmp_path / "again") == []
    assert lags()[f"{name}:0"] == (17, 17)
    transact(broker, name, numbers(15, 18))
    resumed = replace(source, positions={f"{name}:0": 17})
    read_stream(resumed, tmp_path / "second")
    assert payloads(tmp_path / "second") == numbers(15, 18)
    assert lags()[f"{name}:0"] == (21, 21)
    producer = Producer({**broker.client, "transactional.id": "open"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(name, b"{}")
    producer.flush(30)
    # What waits for the end of its transaction keeps no stream from its own.
    read_stream(replace(source, positions={f"{name}:0": 17}), tmp_path / "open")
    assert payloads(tmp_path / "open") == numbers(15, 18)
    assert lags()[f"{name}:0"] == (21, 22)
    producer.abort_transaction(30)


def test_a_position_passes_the_marker_of_a_transaction_after_its_last_message(
    broker: Broker, topic: Callable[..., str]
) -> None:
    name = topic()
    transact(broker, name, numbers(0, 30))
    reader = source_of(broker, name, micro_batch=10).create_reader(None, None)
    positions = list[int]()
    while not positions or positions[-1] < 31:
        reader.advance()
        positions.append(reader.get_checkpoint_mark().positions[f"{name}:0"])
    assert list(dict.fromkeys(positions)) in ([0, 10, 20, 30, 31], [10, 20, 30, 31])
    reader.close()

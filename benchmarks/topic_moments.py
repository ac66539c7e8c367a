"""Broker times of the messages of a topic."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import msgspec
import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from benchmarks.latency import Moments

#: Messages taken from the client at once.
_AT_ONCE = 10_000
#: Seconds for the broker to answer.
_PATIENCE = 30.0


class _Transaction(msgspec.Struct):
    id: int = msgspec.field(name="TRANSACTION_ID")


class _Scored(msgspec.Struct):
    transaction_id: str


_read_transaction = msgspec.json.Decoder(_Transaction).decode
_read_scored = msgspec.json.Decoder(_Scored).decode


def of_transaction(message: bytes) -> int:
    """Return the id of a handbook transaction."""
    return _read_transaction(message).id


def of_scored(message: bytes) -> int:
    """Return the id of a scored transaction."""
    return int(_read_scored(message).transaction_id)


def moments(bootstrap: str, topic: str, identify: Callable[[bytes], int]) -> Moments:
    """Read all messages of a topic.

    Args:
      bootstrap: the broker.
      topic: its messages have the time of the broker (`message.timestamp.type=LogAppendTime`).
      identify: the transaction's id in a message.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "benchmark",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    ids: list[list[int]] = []
    at: list[list[int]] = []
    try:
        partitions = consumer.list_topics(topic, timeout=_PATIENCE).topics[topic].partitions
        consumer.assign([TopicPartition(topic, part, OFFSET_BEGINNING) for part in partitions])
        unread = set(partitions)
        while unread:
            messages = consumer.consume(_AT_ONCE, timeout=0.2)
            for message in messages:
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(message.partition())
                elif error is not None:
                    raise RuntimeError(f"{topic}: {error.str()}")
            good = [message for message in messages if message.error() is None]
            ids.append([identify(message.value() or b"") for message in good])
            at.append([message.timestamp()[1] for message in good])
    finally:
        consumer.close()
    return Moments(_flat(ids), _flat(at))


def _flat(blocks: list[list[int]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.fromiter(chain.from_iterable(blocks), np.int64)

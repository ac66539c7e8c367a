"""Write and read many messages of a topic."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    Message,
    Producer,
    TopicPartition,
)

from deploy.kafka.broker import Broker

#: Seconds within which what is sent must be written, and the next message must come.
PATIENCE = 60.0
#: Messages that the producer is handed at once.
BATCH = 50_000


def produce(
    broker: Broker,
    topic: str,
    values: Iterable[bytes],
    *,
    keys: Iterable[bytes] | None = None,
    timestamps: Iterable[int] | None = None,
    partition: int = -1,
) -> int:
    """Write messages and wait until the broker has all of them.

    Args:
      broker: Where to.
      topic: A topic that exists.
      values: The messages.
      keys: A key for each, which chooses its partition; none if absent.
      timestamps: A time for each, in milliseconds since 1970; now if absent.
      partition: The partition of all; by key, or evenly without keys, if absent.

    Returns:
      How many were written.
    """
    failed: list[KafkaError] = []
    producer = Producer(
        {
            **broker.client,
            "linger.ms": 5,
            "batch.size": 1_000_000,
            "message.max.bytes": 20_000_000,
            "message.timeout.ms": int(PATIENCE * 1000),
            "queue.buffering.max.messages": 10 * BATCH,
            # A call for each message would take most of the time.
            "delivery.report.only.error": True,
        }
    )

    def report(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    keyed = ((value, None) for value in values)
    if keys is not None:
        keyed = zip(values, keys, strict=True)
    written = 0
    if timestamps is None:
        messages = ({"value": value, "key": key} for value, key in keyed)
        while left := list(islice(messages, BATCH)):
            written += len(left)
            while producer.produce_batch(topic, left, partition, on_delivery=report) < len(left):
                # What found no room goes in once there is some.
                producer.poll(0.01)
                left = [message for message in left if "_error" in message]
                for message in left:
                    error = message.pop("_error")
                    assert error.code() == KafkaError._QUEUE_FULL, error
    else:
        # The bulk call can't set them.
        for (value, key), timestamp in zip(keyed, timestamps, strict=True):
            while len(producer) >= 9 * BATCH:
                producer.poll(0.01)
            producer.produce(topic, value, key, partition, report, timestamp=timestamp)
            written += 1
    assert producer.flush(PATIENCE) == 0, "the broker did not take all messages"
    assert failed == [], failed[0]
    return written


def read_all(broker: Broker, topic: str) -> list[Message]:
    """Return all messages of a topic, by partition and offset."""
    consumer = Consumer(
        {**broker.client, "group.id": "read-all", "enable.partition.eof": True, "log_level": 0}
    )
    try:
        partitions = consumer.list_topics(topic, timeout=PATIENCE).topics[topic].partitions
        consumer.assign([TopicPartition(topic, part, OFFSET_BEGINNING) for part in partitions])
        result: dict[int, list[Message]] = {part: [] for part in sorted(partitions)}
        unread = set(partitions)
        while unread:
            for message in consumer.consume(2_000, timeout=1):
                error = message.error()
                if error is None:
                    result[message.partition()].append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(message.partition())
                else:
                    raise AssertionError(error)
        return list(chain.from_iterable(result.values()))
    finally:
        consumer.close()

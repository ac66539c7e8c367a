"""Clients of Kafka that keep what they have to report for whoever uses them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from beam_fraud.sources.kafka.failure import (
    AdminClient,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
    wrong_property,
)
from beam_fraud.sources.kafka.settings import KafkaSettings

_LOG = logging.getLogger(__name__)
#: Called when offsets have been committed, or could not be.
OnCommit = Callable[[KafkaError | None, list[TopicPartition]], None]
#: What serves a stream better than librdkafka's defaults; whoever gives others gets those.
_PREFERRED_OF_PRODUCERS: dict[str, Any] = {
    # A bundle waits for its messages, so they may wait for each other only briefly.
    "linger.ms": 2,
    "compression.type": "lz4",
    # While no broker answers everything waits; nothing is given up.
    "message.timeout.ms": 0,
    # Keys go where the clients of Java put them.
    "partitioner": "murmur2_random",
}


class Reports:
    """The latest that a client had to report on its connections, the oldest first."""

    def __init__(self) -> None:
        self.errors: deque[KafkaError] = deque(maxlen=20)

    def __call__(self, error: KafkaError) -> None:
        """Take one; the client calls this while it is polled."""
        self.errors.append(error)

    def clear(self) -> None:
        """Forget all."""
        self.errors.clear()


class _Quiet:
    """Takes the library's own log, which repeats every failed attempt to connect, as debugging."""

    def log(self, level: int, form: str, *values: Any) -> None:
        _LOG.debug(form, *values)


def new_consumer(
    settings: KafkaSettings, group: str, reports: Reports, on_commit: OnCommit | None = None
) -> Consumer:
    """Return a consumer, which connects by itself while it is used.

    Args:
      settings: how the brokers are reached.
      group: the consumer group unless the properties give one.
      reports: takes what the consumer has to report.
      on_commit: told of every commit.

    Raises:
      UsageError: the library refuses a property.
      FraudError: a property cannot be read.
    """
    config: dict[str, Any] = dict(settings.consumer_config(group))
    config |= {"error_cb": reports, "logger": _Quiet()}
    if on_commit is not None:
        config["on_commit"] = on_commit
    try:
        return Consumer(config)
    except (KafkaException, TypeError, ValueError) as error:
        raise wrong_property(settings, error) from None


def new_producer(settings: KafkaSettings, reports: Reports) -> Producer:
    """Return a producer, which writes in order and once what it is handed, whatever fails between.

    Only of messages that are refused it reports the delivery.

    Args:
      settings: how the brokers are reached.
      reports: takes what the producer has to report.

    Raises:
      UsageError: the library refuses a property.
      FraudError: a property cannot be read.
    """
    needed = {"enable.idempotence": True, "delivery.report.only.error": True}
    config = {**_PREFERRED_OF_PRODUCERS, **settings.producer_config(), **needed}
    config |= {"error_cb": reports, "logger": _Quiet()}
    try:
        return Producer(config)
    except (KafkaException, TypeError, ValueError) as error:
        raise wrong_property(settings, error) from None


def new_admin(settings: KafkaSettings, reports: Reports) -> AdminClient:
    """Return an administrator, which asks about topics.

    Args:
      settings: how the brokers are reached.
      reports: takes what it has to report.

    Raises:
      UsageError: the library refuses a property.
      FraudError: a property cannot be read.
    """
    config: dict[str, Any] = dict(settings.admin_config())
    config |= {"error_cb": reports, "logger": _Quiet()}
    try:
        return AdminClient(config)
    except (KafkaException, TypeError, ValueError) as error:
        raise wrong_property(settings, error) from None

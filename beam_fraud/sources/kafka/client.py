"""Create Kafka clients that collect their reports."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
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
#: Callback after a commit of offsets, successful or not.
OnCommit = Callable[[KafkaError | None, list[TopicPartition]], None]
#: Defaults for streams in place of librdkafka's; properties of the user win.
_PREFERRED_OF_PRODUCERS: dict[str, Any] = {
    # A bundle waits for its messages, so batching may delay them only briefly.
    "linger.ms": 2,
    "compression.type": "lz4",
    # While no broker answers, keep every message.
    "message.timeout.ms": 0,
    # Partition keys as Java's clients do.
    "partitioner": "murmur2_random",
}


class Reports:
    """The latest connection reports of a client, oldest first."""

    def __init__(self) -> None:
        self.errors: deque[KafkaError] = deque(maxlen=20)

    def __call__(self, error: KafkaError) -> None:
        """Add a report; the client calls this during a poll."""
        self.errors.append(error)

    def clear(self) -> None:
        self.errors.clear()


class _Quiet:
    """Log the library's own log at debug level: it repeats every failed connection attempt."""

    def log(self, level: int, form: str, *values: Any) -> None:
        _LOG.debug(form, *values)


def new_consumer(
    settings: KafkaSettings, group: str, reports: Reports, on_commit: OnCommit | None = None
) -> Consumer:
    """Return a consumer, which connects on use.

    Args:
      settings: how the brokers are reached.
      group: the consumer group, unless the properties name one.
      reports: collector of the consumer's reports.
      on_commit: callback after every commit.

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


def new_producer(
    settings: KafkaSettings, reports: Reports, also: Mapping[str, str | int] = MappingProxyType({})
) -> Producer:
    """Return an idempotent producer that keeps the order of messages.

    It reports the delivery of refused messages alone.

    Args:
      settings: how the brokers are reached.
      reports: collector of the producer's reports.
      also: properties that no setting replaces.

    Raises:
      UsageError: the library refuses a property.
      FraudError: a property cannot be read.
    """
    needed = {"enable.idempotence": True, "delivery.report.only.error": True}
    config = {**_PREFERRED_OF_PRODUCERS, **settings.producer_config(), **needed, **also}
    config |= {"error_cb": reports, "logger": _Quiet()}
    try:
        return Producer(config)
    except (KafkaException, TypeError, ValueError) as error:
        raise wrong_property(settings, error) from None


def new_admin(settings: KafkaSettings, reports: Reports) -> AdminClient:
    """Return an admin client.

    Args:
      settings: how the brokers are reached.
      reports: collector of its reports.

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

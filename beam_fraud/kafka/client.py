"""Clients of Kafka that keep what they have to report for whoever uses them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from beam_fraud.kafka.failure import wrong_property
from beam_fraud.kafka.library import Consumer, KafkaError, KafkaException, TopicPartition
from beam_fraud.kafka.settings import KafkaSettings

_LOG = logging.getLogger(__name__)
#: Called when offsets have been committed, or could not be.
OnCommit = Callable[[KafkaError | None, list[TopicPartition]], None]


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
    """A consumer, which connects by itself while it is used.

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

"""Whether Kafka is there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from beam_fraud.doctor.check import Check, tried
from beam_fraud.kafka.settings import KafkaSettings


def check_kafka(settings: KafkaSettings, topics: Sequence[str]) -> list[Check]:
    """Whether a broker answers, and has the topics.

    Raises:
      UsageError: a property is wrong.
      FraudError: the client library is not installed.
    """
    from beam_fraud.kafka.check import brokers, topic_partitions

    def counted(topic: str) -> str:
        partitions = len(topic_partitions(settings, topic))
        return f"{partitions} partition{'' if partitions == 1 else 's'}"

    def answers() -> str:
        found = brokers(settings)
        return f"{settings.bootstrap} answers, {found} broker{'s' if found > 1 else ''}"

    checks = [tried("Kafka", answers)]
    if checks[0].state == "ok":
        checks += [tried(f"topic {topic}", partial(counted, topic)) for topic in topics]
    return checks

"""The client library, which only streams need."""

from __future__ import annotations

from beam_fraud.errors import FraudError
from beam_fraud.extras import install

try:
    from confluent_kafka import (
        OFFSET_BEGINNING,
        OFFSET_INVALID,
        Consumer,
        KafkaError,
        KafkaException,
        Message,
        Producer,
        TopicCollection,
        TopicPartition,
    )
    from confluent_kafka.admin import AdminClient, ClusterMetadata
except ImportError as error:
    raise FraudError(f"Kafka needs a client library ({error}): {install('kafka')}") from None

__all__ = [
    "OFFSET_BEGINNING",
    "OFFSET_INVALID",
    "AdminClient",
    "ClusterMetadata",
    "Consumer",
    "KafkaError",
    "KafkaException",
    "Message",
    "Producer",
    "TopicCollection",
    "TopicPartition",
]

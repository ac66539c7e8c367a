"""Convert reports of the client library to one line with broker, reason and fix."""

from __future__ import annotations

import re
from collections.abc import Iterable

from beam_fraud.errors import Code, FraudError, UsageError, install
from beam_fraud.sources.kafka.settings import KafkaSettings

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
    raise FraudError(
        f"Kafka needs a client library ({error}): {install('kafka')}", Code.EXTRA_MISSING
    ) from None

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


#: Pattern of `<broker>: ` before a reason and of the connection's state after it.
_BEFORE = re.compile(r"^(\S+://)?\S+?(:\d+)?/\S+: ")
_AFTER = re.compile(r" \(after \d+ms in state \w+.*$")
_ADDRESS = re.compile(r"Connect to \S+ failed: ")
#: Pattern of a connection closed without a reason, as by a listener of another protocol.
_SILENT = re.compile(r"^\d+/\d+ brokers are down$|^Disconnected")
#: Errors of logins or TLS that no retry can mend.
_HOPELESS = (KafkaError._AUTHENTICATION, KafkaError._SSL)

#: Transient errors: a broker is away, or does not know its metadata yet.
_PASSING = (
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._WAIT_COORD,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)
#: Errors about a topic that a broker does not know.
_ABSENT = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
)


def reason_of(error: KafkaError) -> str:
    """Return the reason of a report, without broker name and connection state."""
    text = " ".join(error.str().split())
    return _ADDRESS.sub("", _AFTER.sub("", _BEFORE.sub("", text)))


def is_hopeless(error: KafkaError) -> bool:
    """Return whether no retry can help: a refused login, or no TLS."""
    return error.code() in _HOPELESS or "SSL handshake failed" in error.str()


def is_passing(error: KafkaError) -> bool:
    """Return whether a retry may help."""
    return error.code() in _PASSING or error.retriable()


def is_absent(error: KafkaError) -> bool:
    """Return whether the broker knows no such topic; a broker that has just started knows none."""
    return bool(error.code() in _ABSENT)


def no_connection(settings: KafkaSettings, reports: Iterable[KafkaError]) -> FraudError:
    """Return the error for unreachable brokers.

    Args:
      settings: connection settings.
      reports: reports of a client, oldest first.
    """
    errors = list(reports)
    where = f"Kafka {settings.bootstrap}"
    for error in reversed(errors):
        if is_hopeless(error):
            reason = settings.without_secrets(reason_of(error))
            if error.code() == KafkaError._AUTHENTICATION:
                fix = "check sasl.mechanism, sasl.username and sasl.password"
                return FraudError(
                    f"{where}: the login was refused ({reason}); {fix}", Code.BROKER_SECURITY
                )
            fix = "check security.protocol and ssl.ca.location"
            return FraudError(f"{where}: no TLS connection ({reason}); {fix}", Code.BROKER_SECURITY)
    reasons = [reason for error in errors if not _SILENT.match(reason := reason_of(error))]
    why = f" ({settings.without_secrets(reasons[-1])})" if reasons else ""
    return FraudError(
        f"{where}: no broker answers{why}; "
        "is it running, and is security.protocol what it expects?",
        Code.BROKER_SILENT,
    )


def wrong_property(settings: KafkaSettings, error: Exception) -> UsageError:
    """Return the error for a property that the library refuses."""
    cause = error.args[0] if isinstance(error, KafkaException) else error
    text = cause.str() if isinstance(cause, KafkaError) else str(cause)
    text = text.replace("Failed to create consumer: ", "").replace(
        "Failed to create producer: ", ""
    )
    text = settings.without_secrets(" ".join(text.split()))
    return UsageError(
        f"--kafka-config: {text} (properties go by librdkafka's names)", Code.KAFKA_PROPERTY
    )


def about_topic(settings: KafkaSettings, topic: str, error: KafkaError) -> FraudError:
    """Return the error for a topic that cannot be read or written."""
    where = f"Kafka {settings.bootstrap}: topic {topic!r}"
    code = error.code()
    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return FraudError(
            f"{where}: this login is not allowed to use it; ask for access to it",
            Code.TOPIC_FORBIDDEN,
        )
    if is_absent(error):
        return FraudError(
            f"{where}: it is not there, or no longer; create it, or name another one",
            Code.TOPIC_MISSING,
        )
    return FraudError(f"{where}: {settings.without_secrets(reason_of(error))}", Code.TOPIC_FAILED)

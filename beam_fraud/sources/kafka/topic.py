"""Topics and partitions: their names, and where reading starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, cast

from beam_fraud.errors import Code, UsageError

if TYPE_CHECKING:
    from beam_fraud.sources.kafka.failure import Consumer, TopicPartition

#: Topic and number.
Partition = tuple[str, int]
#: Contents of messages.
Content = Literal["transactions", "labels"]
_KINDS = ("earliest", "latest", "committed")


@dataclass(frozen=True)
class KafkaTopic:
    """A topic that a stream reads."""

    #: Its name.
    name: str
    #: Content of its messages.
    content: Content = "transactions"


def partition_name(partition: Partition) -> str:
    """Return the name of a partition in stored positions; topic names have no colon.

    Example:
      >>> partition_name(("payments", 3)), partition_of("payments:3")
      ('payments:3', ('payments', 3))
    """
    return f"{partition[0]}:{partition[1]}"


def partition_of(name: str) -> Partition:
    """Return the inverse of `partition_name`."""
    topic, _, number = name.rpartition(":")
    return topic, int(number)


@dataclass(frozen=True)
class Start:
    """A start position in every partition of a topic."""

    #: The first message, the end, the group's committed offset (the first message without one), or
    #: the first message of a time.
    kind: Literal["earliest", "latest", "committed", "time"] = "earliest"
    #: Only for a time.
    at: datetime | None = None

    @classmethod
    def parse(cls, text: str) -> Start:
        """Parse `earliest`, `latest`, `committed` or an ISO 8601 time, UTC without a zone.

        Raises:
          UsageError: it is none of these.

        Example:
          >>> Start.parse("2024-05-01").at
          datetime.datetime(2024, 5, 1, 0, 0, tzinfo=datetime.timezone.utc)
        """
        if text in _KINDS:
            return cls(cast(Literal["earliest", "latest", "committed"], text))
        try:
            at = datetime.fromisoformat(text)
            at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            raise UsageError(
                f"--start {text}: write {', '.join(_KINDS)} or a time (2024-05-01T12:00:00Z)",
                Code.OPTION_VALUE,
            ) from None
        return cls("time", at)


#: The first message of every partition.
EARLIEST = Start()


def first_offsets(
    consumer: Consumer, partitions: Sequence[Partition], start: Start, seconds: float
) -> dict[Partition, int]:
    """Return the offset of the first message to read, for each partition.

    Args:
      consumer: a consumer of the group.
      partitions: the partitions.
      start: the start.
      seconds: time limit per request.

    Raises:
      KafkaException: a broker does not answer or refuses.
    """
    # Imported here: a stream of files needs no client library.
    from beam_fraud.sources.kafka.failure import KafkaException, TopicPartition

    requested = [TopicPartition(topic, number) for topic, number in partitions]
    known: list[TopicPartition] = []
    if start.kind == "committed":
        known = consumer.committed(requested, timeout=seconds)
    elif start.at is not None:
        # Brokers give negative numbers another meaning; no message is that old.
        millis = max(0, int(start.at.timestamp() * 1000))
        requested = [TopicPartition(topic, number, millis) for topic, number in partitions]
        known = consumer.offsets_for_times(requested, timeout=seconds)
    offsets = {}
    for answer in known:
        if answer.error is not None:
            raise KafkaException(answer.error)
        if answer.offset >= 0:
            offsets[answer.topic, answer.partition] = answer.offset
    # A time after all messages is the end.
    at_end = start.kind in ("latest", "time")
    for partition in partitions:
        if partition not in offsets:
            low, high = consumer.get_watermark_offsets(TopicPartition(*partition), timeout=seconds)
            offsets[partition] = high if at_end else low
    return offsets

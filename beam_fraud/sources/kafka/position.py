"""How far a reader has come, as runners keep it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
from apache_beam.coders import Coder
from apache_beam.io.unbounded_source import CheckpointMark

from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.sources.kafka.start import Start
from beam_fraud.sources.kafka.topic import KafkaTopic, Partition


@dataclass(frozen=True)
class Reading:
    """The share of one sub-source in some topics; two of the same stream are never equal."""

    #: How the brokers are reached.
    settings: KafkaSettings
    #: What is read.
    topics: tuple[KafkaTopic, ...]
    #: Consumer group to which offsets are committed; it has no members.
    group: str
    #: Where to begin in a topic without positions.
    start: Start
    #: Messages taken from the consumer at a time, at most.
    micro_batch: int
    #: Seconds after which partitions are counted again.
    discover_seconds: float
    #: Sub-sources of the stream.
    splits: int = 1
    #: The number of this one: it has the partitions whose number leaves this as the remainder.
    index: int = 0
    #: Whether a batch may hold messages of several partitions.
    together: bool = False

    def owns(self, partition: Partition) -> bool:
        """Return whether this sub-source reads the partition."""
        return partition[1] % self.splits == self.index


class KafkaMark(CheckpointMark):
    """The next offset of each partition."""

    def __init__(
        self, positions: Mapping[str, int], finish: Callable[[], None] | None = None
    ) -> None:
        """Make a mark.

        Args:
          positions: "topic:partition" to the offset of the next message.
          finish: makes the positions durable; stays in this process.
        """
        self.positions = dict(positions)
        self._finish = finish

    def finalize_checkpoint(self) -> None:
        """Everything before the positions is durable downstream: make them so. Once is enough."""
        finish, self._finish = self._finish, None
        if finish is not None:
            finish()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KafkaMark) and other.positions == self.positions

    def __hash__(self) -> int:
        return hash(frozenset(self.positions.items()))


class KafkaMarkCoder(Coder):
    """Marks as JSON, the same positions always as the same bytes."""

    def encode(self, value: KafkaMark) -> bytes:
        """Return the positions alone."""
        return msgspec.json.encode(value.positions, order="deterministic")

    def decode(self, encoded: bytes) -> KafkaMark:
        """Return the inverse of `encode`."""
        return KafkaMark(msgspec.json.decode(encoded, type=dict[str, int]))

    def is_deterministic(self) -> bool:
        """It is."""
        return True

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

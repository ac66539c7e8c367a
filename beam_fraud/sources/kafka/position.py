"""Positions of a reader, as runners store them."""

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
    """A sub-source's share of some topics; two shares of a stream are never equal."""

    #: Connection settings.
    settings: KafkaSettings
    #: The topics.
    topics: tuple[KafkaTopic, ...]
    #: Consumer group for commits of offsets; it has no members.
    group: str
    #: Start in topics without positions.
    start: Start
    #: Maximum of messages per read.
    micro_batch: int
    #: Seconds between two checks for new partitions.
    discover_seconds: float
    #: Number of sub-sources of the stream.
    splits: int = 1
    #: Number of this one: it reads the partitions with this remainder.
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
        """Create a mark.

        Args:
          positions: "topic:partition" to the offset of the next message.
          finish: commits the positions; not pickled.
        """
        self.positions = dict(positions)
        self._finish = finish

    def finalize_checkpoint(self) -> None:
        """Commit the positions once: everything before them is durable downstream."""
        finish, self._finish = self._finish, None
        if finish is not None:
            finish()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KafkaMark) and other.positions == self.positions

    def __hash__(self) -> int:
        return hash(frozenset(self.positions.items()))


class KafkaMarkCoder(Coder):
    """Encode marks as JSON; equal positions give equal bytes."""

    def encode(self, value: KafkaMark) -> bytes:
        return msgspec.json.encode(value.positions, order="deterministic")

    def decode(self, encoded: bytes) -> KafkaMark:
        return KafkaMark(msgspec.json.decode(encoded, type=dict[str, int]))

    def is_deterministic(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

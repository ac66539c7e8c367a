"""Positions of a reader, as runners store them, and the lag and idleness of this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic

import msgspec
from apache_beam.coders import Coder
from apache_beam.io.unbounded_source import CheckpointMark

from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.sources.kafka.topic import KafkaTopic, Partition, Start


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


class Idleness:
    """Idle time of a stream, over all readers of this process."""

    def __init__(self) -> None:
        self._since: float | None = None

    def end(self) -> None:
        """Record a message, or a failed read."""
        self._since = None

    def seconds(self) -> float:
        """Record an empty poll; return the idle seconds."""
        now = monotonic()
        if self._since is None:
            self._since = now
        return now - self._since


_streams: dict[tuple[object, ...], Idleness] = {}


def idleness_of(reading: Reading) -> Idleness:
    """Return the idleness of the stream of `reading`."""
    stream = (reading.settings, reading.topics, reading.group)
    return _streams.setdefault(stream, Idleness())


_lags: dict[str, tuple[int, int]] = {}


def note_lags(lags: Mapping[str, tuple[int, int]]) -> None:
    """Record the lags of a reader's partitions."""
    _lags.update(lags)


def lags() -> dict[str, tuple[int, int]]:
    """ "topic:partition" to the offset of the next message and the end of the partition.

    From the last bundles of this process; the difference is the number of pending messages.
    """
    return dict(_lags)

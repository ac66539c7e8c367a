"""What one sub-source reads, and how."""

from __future__ import annotations

from dataclasses import dataclass

from beam_fraud.kafka.settings import KafkaSettings
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
        """Whether this sub-source reads the partition."""
        return partition[1] % self.splits == self.index

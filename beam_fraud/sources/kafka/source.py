"""Kafka topics as an unbounded source."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from apache_beam.io.unbounded_source import CheckpointMark, UnboundedSource

from beam_fraud.errors import Code, FraudError
from beam_fraud.sources.kafka.feed import Feed
from beam_fraud.sources.kafka.position import KafkaMark, KafkaMarkCoder, Reading, idleness_of
from beam_fraud.sources.kafka.reader import POOL, KafkaReader, NewestEvent
from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.sources.kafka.topic import EARLIEST, KafkaTopic, Start


@dataclass(frozen=True, eq=False)
class KafkaSource(UnboundedSource):
    """Raw batches (`sources.raw`) of the messages of some topics, each partition in its order.

    A message is read once, unless a runner repeats uncommitted work. With `checkpoint`, positions
    are committed to that file together with the state of the steps, and then to the group;
    elsewhere the runner stores the positions.
    """

    #: Connection settings.
    settings: KafkaSettings
    #: The topics, those of transactions first.
    topics: tuple[KafkaTopic, ...]
    #: Start in topics without positions.
    start: Start = EARLIEST
    #: "topic:partition" to the offset of the next message of an earlier run; overrides `start`.
    positions: Mapping[str, int] = field(default_factory=dict)
    #: Function that reads event times of messages, for the watermark; None for no watermark.
    newest_event: NewestEvent | None = None
    #: Microseconds of the watermark behind the newest event time.
    lateness: int = 0
    #: Maximum of messages per read, and of rows per batch.
    micro_batch: int = 10_000
    #: Number of sub-sources; 1 for a runner in one process, which then commits all partitions at
    #: once.
    splits: int = 1
    #: The stream ends when this file exists.
    stop_file: str | None = None
    #: The stream ends after so many idle seconds.
    until_idle: float | None = None
    #: File of the `LocalCheckpoint`, on a runner in this process.
    checkpoint: Path | None = None
    #: Seconds between two checks for new partitions, which are read from their first message.
    discover_seconds: float = 30.0
    #: Number of this sub-source; None for the whole.
    index: int | None = None
    #: Whether a batch may hold messages of several partitions: fewer, larger batches cost less.
    together: bool = False

    @property
    def group(self) -> str:
        """Consumer group for commits of offsets.

        Raises:
          FraudError: the properties cannot be read.
        """
        return self.settings.group(f"beam-fraud-{self.topics[0].name}")

    def resumed(self, positions: Mapping[str, str]) -> KafkaSource:
        """Return the source that resumes at these positions.

        Raises:
          FraudError: a position is no offset.
        """
        try:
            offsets = {name: int(at) for name, at in positions.items()}
        except ValueError:
            raise FraudError(
                f"{self.checkpoint}: the stream's state is damaged (a position is no offset); "
                "start again with another --out",
                Code.STATE_UNREADABLE,
            ) from None
        return replace(self, positions=offsets)

    def __getstate__(self) -> bytes:
        """Pickle equal sources to equal bytes, by which Beam finds the reader of the last bundle.

        Without this, an unpickled source would differ in which equal strings are one object.
        """
        written = io.BytesIO()
        pickler = pickle.Pickler(written, protocol=5)
        pickler.fast = True
        pickler.dump(self.__dict__)
        return written.getvalue()

    def __setstate__(self, state: bytes) -> None:
        self.__dict__.update(pickle.loads(state))  # noqa: S301 - within a pickle already

    @property
    def reading(self) -> Reading:
        """The share of the topics that this sub-source reads.

        Raises:
          FraudError: the properties cannot be read.
        """
        return Reading(
            self.settings,
            self.topics,
            self.group,
            self.start,
            self.micro_batch,
            self.discover_seconds,
            self.splits,
            self.index or 0,
            self.together,
        )

    def split(self, desired_num_splits: int, options: Any = None) -> list[KafkaSource]:
        """Return `splits` sub-sources for any request of the runner: partitions keep theirs.

        A sub-source is not split again.
        """
        if self.index is not None:
            return [self]
        return [replace(self, index=index) for index in range(self.splits)]

    def create_reader(self, options: Any, checkpoint_mark: CheckpointMark | None) -> KafkaReader:
        """Return a reader at a mark, or at the beginning.

        Raises:
          FraudError: no broker answers, or a topic does not exist.
        """
        assert checkpoint_mark is None or isinstance(checkpoint_mark, KafkaMark)
        reading = self.reading
        resumed = None if checkpoint_mark is None else checkpoint_mark.positions
        feed = POOL.take(reading, resumed)
        if feed is None:
            idleness_of(reading).end()
            feed = Feed(reading, resumed, self.positions)
        return KafkaReader(
            feed,
            newest_event=self.newest_event,
            lateness=self.lateness,
            stop_file=self.stop_file,
            until_idle=self.until_idle,
            checkpoint=self.checkpoint,
        )

    def get_checkpoint_mark_coder(self) -> KafkaMarkCoder:
        return KafkaMarkCoder()

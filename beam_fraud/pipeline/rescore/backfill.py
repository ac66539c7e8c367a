"""Write the scores of a rescored archive to a database, an outbox or a topic, at a limited rate."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.alerts.alert import AlertContext
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.queue import queue_flagged
from beam_fraud.errors import Code, FraudError
from beam_fraud.records.messages import scored_json
from beam_fraud.schema.stages import SCORED, completed
from beam_fraud.sinks.base import WriterSink
from beam_fraud.sinks.transactions import TopicTransactions
from beam_fraud.sources.filesystem import open_file, sha256_of, size_and_time
from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.storage.urls import Place

#: Rows that are read, and written, at once; fewer with a limit on the rate.
_BLOCK_ROWS = 50_000
_ROWS_AT_A_TIME = 10_000
#: Parts of a second in which the rows of a limited rate are written.
_PARTS_OF_SECOND = 10


class PartitionScores(NamedTuple):
    """The scores of a partition by the new model."""

    #: Name of the partition.
    name: str
    #: Parquet files.
    files: tuple[Place, ...]


class Pace:
    """Let at most so many rows a second pass, evenly.

    Args:
      rows_per_second: above 0; None for no limit.
    """

    def __init__(
        self,
        rows_per_second: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._rate = rows_per_second
        self._clock, self._sleep = clock, sleep
        self._free_at = clock()
        #: Rows so far.
        self.passed = 0

    @property
    def rows(self) -> int:
        """Rows to write at once."""
        if self._rate is None:
            return _ROWS_AT_A_TIME
        return min(max(int(self._rate / _PARTS_OF_SECOND), 1), _ROWS_AT_A_TIME)

    def wait(self, rows: int) -> None:
        """Wait until these rows may be written; time that a slow place took is not made up for."""
        self.passed += rows
        if self._rate is None:
            return
        now = self._clock()
        if now < self._free_at:
            self._sleep(self._free_at - now)
            now = self._free_at
        self._free_at = now + rows / self._rate


class _Written(msgspec.Struct, frozen=True):
    """The scores of a partition that a destination has."""

    #: SHA-256 of the files.
    digest: str
    rows: int


class _Begun(msgspec.Struct, frozen=True):
    """A partition whose messages a topic has in part."""

    name: str
    digest: str
    #: Position of the topic at its first row.
    position: int


class _Delivered(msgspec.Struct):
    """The partitions that a destination has."""

    shown: str
    #: Id of the transactions.
    id: str
    partitions: dict[str, _Written] = {}
    begun: _Begun | None = None


class _Digest(msgspec.Struct, frozen=True):
    """The digest of a file of some size and time."""

    size: int
    #: Time of the change; None at a URL, where no name is used twice.
    changed: int | None
    digest: str


class _State(msgspec.Struct):
    """`backfill.json`."""

    destinations: dict[str, _Delivered] = {}
    files: dict[str, _Digest] = {}


@dataclass
class Progress:
    """The partitions that a destination has, stored in the file of the state."""

    _state: _State
    _delivered: _Delivered
    _write: Callable[[bytes], None]

    @property
    def id(self) -> str:
        """A name for this destination that no other directory has."""
        return self._delivered.id

    @property
    def begun(self) -> _Begun | None:
        """The partition that was begun last."""
        return self._delivered.begun

    def has(self, name: str, digest: str) -> bool:
        """Return whether the destination has the scores of a partition."""
        known = self._delivered.partitions.get(name)
        return known is not None and known.digest == digest

    def begin(self, name: str, digest: str, position: int) -> None:
        """Record the position of a topic before the rows of a partition."""
        self._delivered.begun = _Begun(name, digest, position)
        self._save()

    def done(self, name: str, digest: str, rows: int) -> None:
        """Record that the destination has all rows of a partition."""
        self._delivered.partitions[name] = _Written(digest, rows)
        self._save()

    def _save(self) -> None:
        self._write(msgspec.json.format(msgspec.json.encode(self._state), indent=1))


class Destination(Protocol):
    """A place that scores are written to."""

    @property
    def shown(self) -> str:
        """The place, without secrets."""

    def send(self, scores: PartitionScores, digest: str, progress: Progress, pace: Pace) -> int:
        """Write a partition; return the number of its rows.

        Raises:
          FraudError: the place refuses them.
        """


@dataclass(frozen=True)
class FlaggedRows:
    """A database that takes flagged rows, alerts of them, or both. Repeats change nothing."""

    #: The sink, begun; None for alerts alone.
    sink: WriterSink | None
    #: Where alerts wait, if not in the database of the sink.
    outbox: Outbox | None = None
    #: Names of channels, of alerts.
    channels: tuple[str, ...] = ()
    #: Settings that alerts need beside their rows.
    context: AlertContext | None = None
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def shown(self) -> str:
        """The database, without secrets."""
        places = [place.describe() for place in (self.sink, self.outbox) if place is not None]
        return " and ".join([*places, *self.channels])

    def send(self, scores: PartitionScores, digest: str, progress: Progress, pace: Pace) -> int:
        """Write the flagged rows."""
        writer = None if self.sink is None else self.sink.open(self.run_id)
        sent = 0
        for block in _rows(scores):
            flagged = block.filter(block.column("flagged"))
            for start in range(0, len(flagged), pace.rows):
                rows = flagged.slice(start, pace.rows)
                pace.wait(len(rows))
                if writer is not None:
                    queued = self.channels if self.outbox is None else ()
                    writer.write(rows, queued, self.context)
                if self.outbox is not None:
                    queue_flagged(self.outbox.url, rows, self.channels, self.context)
                sent += len(rows)
        if writer is not None:
            writer.close()
        return sent


class ScoredTopic:
    """A topic that takes every scored row, as `stream --out-topic` writes it, exactly once."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self._transactions: TopicTransactions | None = None
        self._position = 0

    @property
    def shown(self) -> str:
        """Broker and topic."""
        return f"kafka://{self._settings.bootstrap}/{self._topic}"

    def send(self, scores: PartitionScores, digest: str, progress: Progress, pace: Pace) -> int:
        """Write the rows from the first that no earlier run has written."""
        if self._transactions is None:
            name = f"beam-fraud-backfill-{progress.id}"
            self._transactions = TopicTransactions(self._settings, self._topic, name)
            self._position = self._known_position(self._transactions, progress)
        begun = progress.begun
        if begun is None or (begun.name, begun.digest) != (scores.name, digest):
            progress.begin(scores.name, digest, self._position)
            there = 0
        else:
            there = self._position - begun.position
        row = 0
        for block in _rows(scores):
            first = min(max(there - row, 0), len(block))
            row += first
            for start in range(first, len(block), pace.rows):
                rows = block.slice(start, pace.rows)
                pace.wait(len(rows))
                row += len(rows)
                self._position += len(rows)
                self._transactions.write(
                    scored_json(rows), rows.column("transaction_id").to_pylist(), self._position
                )
        return row

    def _known_position(self, transactions: TopicTransactions, progress: Progress) -> int:
        position = transactions.position()
        if position is None and progress.begun is not None:
            raise FraudError(
                f"{self.shown}: the broker no longer knows how far partition "
                f"{progress.begun.name} was written; name another topic, or remove backfill.json "
                "to write everything again",
                Code.TOPIC_FAILED,
            )
        return position or 0

    def close(self) -> None:
        """Release the connections."""
        if self._transactions is not None:
            self._transactions.close()


def backfill(
    partitions: Sequence[PartitionScores],
    destinations: Sequence[Destination],
    pace: Pace,
    read: Callable[[], bytes | None],
    write: Callable[[bytes], None],
) -> dict[str, int]:
    """Write the scores of partitions to destinations that do not have them.

    Args:
      partitions: in order.
      destinations: the places.
      pace: of each of them, one after the other.
      read: reads the file of the state; None if there is none.
      write: replaces it as a whole.

    Returns:
      Each destination, shown, with the rows that were written to it now.

    Raises:
      FraudError: a place refuses rows; those before it are there, and recorded.
    """
    data = read()
    state = _State() if data is None else msgspec.json.decode(data, type=_State)
    sent = {}
    for destination in destinations:
        shown = destination.shown
        delivered = state.destinations.setdefault(shown, _Delivered(shown, uuid.uuid4().hex[:16]))
        progress = Progress(state, delivered, write)
        sent[shown] = 0
        for scores in partitions:
            digest = _digest(scores, state)
            if not progress.has(scores.name, digest):
                rows = destination.send(scores, digest, progress, pace)
                progress.done(scores.name, digest, rows)
                sent[shown] += rows
    return sent


def _digest(scores: PartitionScores, state: _State) -> str:
    """Return the SHA-256 of files, of those that changed since the last run by reading them."""
    digests = []
    names = [f"{scores.name}/{PurePosixPath(place.name).name}" for place in scores.files]
    for gone in {n for n in state.files if n.rpartition("/")[0] == scores.name} - set(names):
        del state.files[gone]
    for place, name in zip(scores.files, names, strict=True):
        known = state.files.get(name)
        now = _size_and_change(place, known)
        if known is None or (known.size, known.changed) != now:
            known = state.files[name] = _Digest(*now, sha256_of(place))
        digests.append(known.digest)
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _size_and_change(place: Place, known: _Digest | None) -> tuple[int, int | None]:
    if place.local is not None:
        now = place.local.stat()
        return now.st_size, now.st_mtime_ns
    return (size_and_time(place)[0] if known is None else known.size), None


def _rows(scores: PartitionScores) -> Iterator[pa.RecordBatch]:
    for place in scores.files:
        with open_file(place) as source, pq.ParquetFile(source) as file:
            there = [name for name in SCORED.names if name in file.schema_arrow.names]
            for batch in file.iter_batches(_BLOCK_ROWS, columns=there):
                yield completed(batch, SCORED)

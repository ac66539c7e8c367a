"""A checkpoint for many small commits: one record of a journal for the changes of all shards."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.checkpoint import FOREVER, LocalCheckpoint
from beam_fraud.storage.journal_file import JournalFile

#: Name of the number of folds among the positions.
_GENERATION = "journal"
#: Records that are worth a fold while there is nothing else to do.
_WORTH_RECORDS = 64
#: Records after which the journal is folded into the state of the shards, and their age in seconds.
_FOLD_RECORDS = 2_000
_FOLD_SECONDS = 5.0
#: Bytes after which it is folded.
_FOLD_BYTES = 4 << 20
#: How many times as much makes a commit fold it, if nobody did between two commits.
_OVERDUE = 4


class Merging(Protocol):
    """What a fold needs of a shard (`state.shard.Shard`)."""

    @property
    def needed_from(self) -> int:
        """Deltas whose `newest` is before this (event time, microseconds) may be dropped."""

    def merge(self, deltas: Sequence[bytes]) -> bytes:
        """Merge deltas, in their order, to one."""


class _Change(msgspec.Struct, array_like=True, gc=False):
    """A call of `keep`."""

    step: str
    shard: int
    replaces: bool
    deltas: list[tuple[bytes, int]]


class _Record(msgspec.Struct, array_like=True, gc=False):
    """A commit."""

    changes: list[_Change]
    positions: dict[str, str]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Record)


class JournaledCheckpoint:
    """A `LocalCheckpoint` whose commits cost one record, however many shards changed.

    A commit appends the changes since the last one to a journal, a file beside the checkpoint's.
    Now and then the journal is folded: the deltas of each shard are merged to one and added to its
    state, in the transaction that begins the next generation of the journal. After a commit that
    failed, the changes stay in memory and are part of the next one.

    A fold needs the shards that wrote to the journal (`open`).

    Args:
      path: the file.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
          FraudError: it cannot be used, or its journal is damaged.
        """
        self.base = LocalCheckpoint(path, flushed=True)
        self._file = JournalFile(path.with_suffix(".journal"))
        #: Return the open shards of steps that write to the journal.
        self.open: dict[tuple[str, int], Callable[[], Merging]] = {}
        #: The committed positions of sources.
        self.positions = self.base.positions()
        #: Generation of the journal's records, one more with each fold.
        self._generation = int(self.positions.pop(_GENERATION, "1"))
        self._file.begin(self._generation)
        records = [self._decoded(record) for record in self._file.read()]
        #: The changes of each committed record.
        self._records = [record.changes for record in records]
        for record in records:
            self.positions |= record.positions
        self._bytes = 0
        self._folded = time.monotonic()
        #: The changes since the last commit.
        self._pending: list[_Change] = []
        self._versions: dict[tuple[str, int], int] = {}

    @property
    def records(self) -> int:
        """Number of records in the journal."""
        return len(self._records)

    def close(self) -> None:
        """Close the files; uncommitted changes are lost."""
        self._file.close()
        self.base.close()

    def deltas(self, step: str, shard: int) -> list[bytes]:
        """Return the deltas of a shard in order."""
        deltas = self.base.deltas(step, shard)
        for change in self._changes():
            if (change.step, change.shard) == (step, shard):
                deltas = [] if change.replaces else deltas
                deltas += [data for data, _ in change.deltas]
        return deltas

    def version(self, step: str, shard: int) -> int:
        """Return a number that changes with the state of a shard in this process."""
        return self._versions.get((step, shard), 0)

    def keep(
        self, step: str, shard: int, deltas: Sequence[tuple[bytes, int]], *, replaces: bool = False
    ) -> None:
        """Add deltas (data and newest event time) to a shard, or replace all."""
        self._pending.append(_Change(step, shard, replaces, list(deltas)))
        place = step, shard
        self._versions[place] = self._versions.get(place, 0) + 1

    def to_merge(self, step: str, shard: int) -> list[tuple[int, list[bytes]]]:
        """Return nothing: folds merge."""
        return []

    def merge(self, step: str, shard: int, level: int, data: bytes) -> None:
        """Never called."""
        raise NotImplementedError("folds merge")

    def drop(self, step: str, shard: int, before: int) -> None:
        """Do nothing: folds drop what is not needed."""

    @property
    def worth(self) -> bool:
        """Whether to fold the journal while there is nothing else to do."""
        return len(self._records) >= _WORTH_RECORDS

    @property
    def due(self) -> bool:
        """Whether to fold the journal between two commits."""
        return self._grown(1)

    @property
    def overdue(self) -> bool:
        """Whether the next commit should fold the journal."""
        return self._grown(_OVERDUE)

    def _grown(self, times: int) -> bool:
        return (
            len(self._records) >= times * _FOLD_RECORDS
            or self._bytes >= times * _FOLD_BYTES
            or (bool(self._records) and time.monotonic() - self._folded >= times * _FOLD_SECONDS)
        )

    def commit(self, positions: Mapping[str, str], *, fold: bool = False) -> None:
        """Commit the changes and positions, flushed to the disk.

        Args:
          positions: new positions of sources.
          fold: whether to fold the journal.

        Raises:
          FraudError: the file cannot be written; the next commit includes the changes.
        """
        if not self._pending and not positions and not (fold and self._records):
            return
        if fold:
            self._commit_folded(positions)
        else:
            record = _ENCODER.encode(_Record(self._pending, dict(positions)))
            self._file.append(record)
            self._records.append(self._pending)
            self._bytes += len(record)
        self.positions |= positions
        self._pending = []

    def discard(self) -> None:
        """Drop the changes since the last commit: shards restore themselves from the rest."""
        for change in self._pending:
            self._versions[change.step, change.shard] += 1
        self._pending = []

    def _changes(self) -> list[_Change]:
        return [change for record in (*self._records, self._pending) for change in record]

    def _commit_folded(self, positions: Mapping[str, str]) -> None:
        """Add the changes to the state of the shards, and begin the journal again."""
        generation = self._generation + 1
        try:
            self._fold()
            self.base.commit({**self.positions, **positions, _GENERATION: str(generation)})
        except FraudError:
            self.base.roll_back()
            raise
        self._generation = generation
        self._file.begin(generation)
        self._records, self._bytes = [], 0
        self._folded = time.monotonic()

    def _fold(self) -> None:
        changes: dict[tuple[str, int], list[_Change]] = {}
        for change in self._changes():
            of_shard = changes.setdefault((change.step, change.shard), [])
            if change.replaces:
                of_shard.clear()
            of_shard.append(change)
        for (step, number), of_shard in changes.items():
            replaces = any(change.replaces for change in of_shard)
            deltas = [delta for change in of_shard for delta in change.deltas]
            opened = self.open.get((step, number))
            shard = None if opened is None else opened()
            ageing = [delta for delta in deltas if delta[1] != FOREVER]
            if shard is not None and len(ageing) > 1:
                merged = shard.merge([data for data, _ in ageing])
                newest = max(newest for _, newest in ageing)
                deltas = [(merged, newest), *(d for d in deltas if d[1] == FOREVER)]
            self.base.keep(step, number, deltas, replaces=replaces)
            if shard is not None:
                self.base.drop(step, number, shard.needed_from)
                for level, parts in self.base.to_merge(step, number):
                    self.base.merge(step, number, level, shard.merge(parts))

    def _decoded(self, record: bytes) -> _Record:
        try:
            return _DECODER.decode(record)
        except msgspec.DecodeError:
            raise FraudError(
                f"{self.base.path}: the journal is damaged; start again with another --state and "
                "--history",
                Code.STATE_UNREADABLE,
            ) from None

"""A checkpoint for many small commits: one record of a journal for the changes of all shards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.checkpoint import FOREVER, LocalCheckpoint
from beam_fraud.storage.journal_file import JournalFile

#: Endings of the two files, which take turns.
_ENDINGS = (".journal", ".journal-2")
#: Name of the number of folds among the positions.
_GENERATION = "journal"
#: Records that are worth a fold while there is nothing else to do.
_WORTH_RECORDS = 64
#: Records after which the journal is folded into the state of the shards, and their age in seconds.
_FOLD_RECORDS = 2_000
_FOLD_SECONDS = 5.0
#: Bytes after which it is folded.
_FOLD_BYTES = 4 << 20
#: Deltas that are merged at once.
_MERGED_AT_ONCE = 128
#: How many times as much makes a commit fold it, if no fold ran between two commits.
_OVERDUE = 4


class Merging(Protocol):
    """The methods of a shard (`state.shard.Shard`) that a fold calls."""

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


@dataclass(frozen=True)
class _Fold:
    """A generation that is being folded."""

    generation: int
    #: The changes of each record.
    records: list[list[_Change]]
    #: The positions after it.
    positions: dict[str, str]
    #: The shards that wrote them; None for those that are open when it ends.
    shards: Mapping[tuple[str, int], Merging] | None


class JournaledCheckpoint:
    """A `LocalCheckpoint` whose commits cost one record, however many shards changed.

    A commit appends the changes since the last one to a journal, a file beside the checkpoint's.
    Now and then the journal is folded: the deltas of each shard are merged to one and added to its
    state, in the transaction that ends this generation of the journal. `begin_fold` begins the next
    one in a second file, so that commits go on while another thread folds (`end_fold`). After a
    commit that failed, the changes stay in memory and are part of the next one.

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
        #: Return the open shards of steps that write to the journal.
        self.open: dict[tuple[str, int], Callable[[], Merging]] = {}
        #: The committed positions of sources.
        self.positions = self.base.positions()
        #: Generation of the journal's records, one more with each fold.
        self._generation = int(self.positions.pop(_GENERATION, "1"))
        #: Held by what changes the state of the shards, and by what reads it and the journal.
        self._lock = threading.RLock()
        #: Held for moments, while a record goes from one list to another.
        self._moving = threading.Lock()
        #: A generation before, if it is not folded.
        self._folding: _Fold | None = None
        self._file, self._other = (JournalFile(path.with_suffix(end)) for end in _ENDINGS)
        #: The changes of each committed record.
        self._records = self._read(self._file)
        if not self._records and (records := self._read(self._other)):
            self._records = records
            self._file, self._other = self._other, self._file
        if self._records:
            # A process that ended before it had folded them has begun the next generation.
            self._begin_next(None)
            self._records = self._read(self._file)
            if not self._records:
                self._return()
        self._bytes = 0
        self._folded = time.monotonic()
        #: The changes since the last commit.
        self._pending: list[_Change] = []
        self._versions: dict[tuple[str, int], int] = {}

    @property
    def records(self) -> int:
        """Number of records in the journal, without those of a fold that has begun."""
        return len(self._records)

    def reserve(self) -> None:
        """Fill new files, so that no commit has to; before the first commit.

        Raises:
          FraudError: the disk does not take them.
        """
        self._file.reserve()
        self._other.reserve()

    @property
    def changed(self) -> bool:
        """Return whether there are changes since the last commit."""
        return bool(self._pending)

    def close(self) -> None:
        """Close the files; uncommitted changes are lost."""
        with self._lock:
            self._file.close()
            self._other.close()
            self.base.close()

    def deltas(self, step: str, shard: int) -> list[bytes]:
        """Return the deltas of a shard in order; after a fold that another thread does."""
        with self._lock:
            return self._with_changes(self.base.deltas(step, shard), step, shard)

    def stored(self, step: str, shard: int) -> list[bytes]:
        """Return the same in any thread."""
        with self._lock:
            return self._with_changes(self.base.stored(step, shard), step, shard)

    def _with_changes(self, deltas: list[bytes], step: str, shard: int) -> list[bytes]:
        for change in self._changes():
            if (change.step, change.shard) == (step, shard):
                deltas = [] if change.replaces else deltas
                deltas += [data for data, _ in change.deltas]
        return deltas

    def shards(self, step: str) -> list[int]:
        """Return the shards of a step that have deltas, in any thread."""
        with self._lock:
            changed = (change.shard for change in self._changes() if change.step == step)
            numbers = sorted({*self.base.shards(step), *changed})
            return [number for number in numbers if self.deltas(step, number)]

    def claim(self, about: Mapping[str, str]) -> None:
        """Do `LocalCheckpoint.claim`, in any thread."""
        with self._lock:
            self.base.claim(about)

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

    def merge(self, step: str, shard: int, last: int, data: bytes) -> None:
        """Never called."""
        raise NotImplementedError("folds merge")

    def drop(self, step: str, shard: int, before: int) -> None:
        """Do nothing: folds drop what is not needed."""

    @property
    def worth(self) -> bool:
        """Return whether to fold the journal while there is nothing else to do."""
        return len(self._records) >= _WORTH_RECORDS

    @property
    def due(self) -> bool:
        """Return whether to fold the journal between two commits."""
        aged = time.monotonic() - self._folded >= _FOLD_SECONDS
        return self._grown(1) or (aged and bool(self._records))

    @property
    def overdue(self) -> bool:
        """Return whether the next commit should fold the journal, because no fold ran before it."""
        return self._grown(_OVERDUE)

    def _grown(self, times: int) -> bool:
        return len(self._records) >= times * _FOLD_RECORDS or self._bytes >= times * _FOLD_BYTES

    def commit(
        self,
        positions: Mapping[str, str],
        *,
        fold: bool = False,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Commit the changes and positions, flushed to the disk.

        Args:
          positions: new positions of sources.
          fold: whether to fold the journal.
          meanwhile: called, unless the journal is folded, while the disk takes the record.

        Raises:
          FraudError: the file cannot be written; the next commit includes the changes.
        """
        if fold:
            self.end_fold()
        if not self._pending and not positions and not (fold and self._records):
            return
        if fold:
            with self._lock:
                self._commit_folded(positions)
        else:
            record = _ENCODER.encode(_Record(self._pending, dict(positions)))
            self._file.append(record, meanwhile)
            self._bytes += len(record)
            with self._moving:
                self._records.append(self._pending)
                self._pending = []
        self.positions |= positions

    @property
    def uncommitted(self) -> int:
        """Number of changes since the last commit."""
        return len(self._pending)

    def discard(self, kept: int = 0) -> None:
        """Drop the changes since the last commit: shards restore themselves from the rest.

        Args:
          kept: how many of them stay, the oldest.
        """
        for change in self._pending[kept:]:
            self._versions[change.step, change.shard] += 1
        self._pending = self._pending[:kept]

    def begin_fold(self) -> bool:
        """Begin the next generation; return whether there is one before for `end_fold`."""
        if self._folding is None and self._records:
            shards = self._opened()
            with self._lock, self._moving:
                self._begin_next(shards)
                self._records, self._bytes = [], 0
                self._folded = time.monotonic()
        return self._folding is not None

    def end_fold(self, pause: Callable[[], object] = lambda: None) -> None:
        """Fold the generation before, in any thread, while this one is written.

        Args:
          pause: called between two parts of the work, each of about a millisecond.

        Raises:
          FraudError: the state of the shards cannot be written; the next call does it again.
        """
        with self._lock:
            fold = self._folding
            if fold is None:
                return
            try:
                changes = [change for record in fold.records for change in record]
                shards = self._opened() if fold.shards is None else fold.shards
                self._fold(changes, shards, pause)
                self.base.commit({**fold.positions, _GENERATION: str(fold.generation + 1)})
            except FraudError:
                self.base.roll_back()
                raise
            self._folding = None

    def _opened(self) -> dict[tuple[str, int], Merging]:
        return {place: opened() for place, opened in self.open.items()}

    def _begin_next(self, shards: Mapping[tuple[str, int], Merging] | None) -> None:
        positions = dict(self.positions)
        self._folding = _Fold(self._generation, self._records, positions, shards)
        self._generation += 1
        self._file, self._other = self._other, self._file
        self._file.begin(self._generation)

    def _return(self) -> None:
        """Return to the generation before, which has no successor."""
        assert self._folding is not None
        self._generation, self._records = self._folding.generation, self._folding.records
        self._folding = None
        self._file, self._other = self._other, self._file

    def _read(self, file: JournalFile) -> list[list[_Change]]:
        """Return the changes of each record of the generation, and take up their positions."""
        file.begin(self._generation)
        records = [self._decoded(record) for record in file.read()]
        for record in records:
            self.positions |= record.positions
        return [record.changes for record in records]

    def _changes(self) -> list[_Change]:
        with self._moving:
            folding = [] if self._folding is None else self._folding.records
            every = (*folding, *self._records, self._pending)
        return [change for record in every for change in record]

    def _commit_folded(self, positions: Mapping[str, str]) -> None:
        """Add the changes to the state of the shards, and begin the journal again."""
        generation = self._generation + 1
        try:
            self._fold(self._changes(), self._opened(), lambda: None)
            self.base.commit({**self.positions, **positions, _GENERATION: str(generation)})
        except FraudError:
            self.base.roll_back()
            raise
        self._generation = generation
        self._file.begin(generation)
        with self._moving:
            self._records, self._pending = [], []
        self._bytes = 0
        self._folded = time.monotonic()

    def _fold(
        self,
        made: Sequence[_Change],
        shards: Mapping[tuple[str, int], Merging],
        pause: Callable[[], object],
    ) -> None:
        changes: dict[tuple[str, int], list[_Change]] = {}
        for change in made:
            of_shard = changes.setdefault((change.step, change.shard), [])
            if change.replaces:
                of_shard.clear()
            of_shard.append(change)
        for (step, number), of_shard in changes.items():
            replaces = any(change.replaces for change in of_shard)
            deltas = [delta for change in of_shard for delta in change.deltas]
            shard = shards.get((step, number))
            ageing = [delta for delta in deltas if delta[1] != FOREVER]
            if shard is not None and len(ageing) > 1:
                merged = _merged(shard, [data for data, _ in ageing], pause)
                newest = max(newest for _, newest in ageing)
                deltas = [(merged, newest), *(d for d in deltas if d[1] == FOREVER)]
            self.base.keep(step, number, deltas, replaces=replaces)
            if shard is not None:
                self.base.drop(step, number, shard.needed_from)
                while runs := self.base.to_merge(step, number):
                    for last, parts in runs:
                        pause()
                        self.base.merge(step, number, last, shard.merge(parts))
            pause()

    def _decoded(self, record: bytes) -> _Record:
        try:
            return _DECODER.decode(record)
        except msgspec.DecodeError:
            raise FraudError(
                f"{self.base.path}: the journal is damaged; start again with another --state and "
                "--history",
                Code.STATE_UNREADABLE,
            ) from None


def _merged(shard: Merging, deltas: Sequence[bytes], pause: Callable[[], object]) -> bytes:
    """Merge deltas in parts: one long merge would keep other threads from the interpreter."""
    parts = list[bytes]()
    for start in range(0, len(deltas), _MERGED_AT_ONCE):
        parts.append(shard.merge(deltas[start : start + _MERGED_AT_ONCE]))
        pause()
    return parts[0] if len(parts) == 1 else shard.merge(parts)

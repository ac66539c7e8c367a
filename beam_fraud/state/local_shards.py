"""The shards of a step in the memory of this process, with their state in a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import pyarrow as pa

from beam_fraud.errors import FraudError
from beam_fraud.state.shard import Effects, Shard

#: Type: create the shard of a number; a partial of a class, sent to the workers.
MakeShard = Callable[[int], Shard]
#: Deltas of a shard between two checks whether some can be merged or dropped.
_TIDY_EVERY = 32


class Checkpoint(Protocol):
    """The committed state of shards (`storage.checkpoint.LocalCheckpoint`)."""

    def deltas(self, step: str, shard: int) -> list[bytes]:
        """Return the deltas of a shard in order."""

    def version(self, step: str, shard: int) -> int:
        """Return a number that changes with the state of a shard in this process."""

    def keep(
        self, step: str, shard: int, deltas: Sequence[tuple[bytes, int]], *, replaces: bool = False
    ) -> None:
        """Add deltas (data and newest event time) to a shard, or replace all."""

    def to_merge(self, step: str, shard: int) -> list[tuple[int, list[bytes]]]:
        """Return runs of small deltas to merge: the number of the last one, and their data."""

    def merge(self, step: str, shard: int, last: int, data: bytes) -> None:
        """Replace a run of `to_merge` by one delta."""

    def drop(self, step: str, shard: int, before: int) -> None:
        """Drop the deltas of a shard older than `before` (event time, microseconds)."""


class LocalShards:
    """Pass batches to the shards of a step, and their deltas to the checkpoint.

    A shard is restored when it is first used, and again if its state changed by other means.

    Args:
      make: creates a shard.
      step: name of the state.
      checkpoint: the state.
    """

    def __init__(self, make: MakeShard, step: str, checkpoint: Checkpoint) -> None:
        self._make = make
        self._step = step
        self._checkpoint = checkpoint
        self._open: dict[int, Shard] = {}
        #: The last change of the state that a shard in memory includes.
        self._versions: dict[int, int] = {}
        self._untidy: dict[int, int] = {}

    def take(self, number: int, rows: pa.RecordBatch) -> Sequence[pa.RecordBatch]:
        """Pass a batch to a shard; return the rows it emits."""
        return self.call(number, lambda shard: shard.take(rows))

    def tick(self, now: float) -> Iterator[pa.RecordBatch]:
        """Pass the time (seconds of the epoch) to shards that wait; yield the rows they emit."""
        for number in list(self._open):
            with self._restored_after_failure(number):
                # Restored, if its state changed: what it was may have waited for nothing.
                shard = self.shard(number)
                if shard.waiting:
                    yield from self.keep(number, shard.tick(now))

    def finish(self, number: int) -> Sequence[pa.RecordBatch]:
        """Process the end of a shard's rows; return the rows it emits."""
        return self.call(number, lambda shard: shard.finish())

    def call(self, number: int, method: Callable[[Shard], Effects]) -> Sequence[pa.RecordBatch]:
        """Call a method of a shard, and keep its effects; return the rows it emits."""
        with self._restored_after_failure(number):
            return self.keep(number, method(self.shard(number)))

    def opened(self, number: int) -> Shard | None:
        """Return a shard if it is in memory, current or not; in any thread."""
        return self._open.get(number)

    def shard(self, number: int) -> Shard:
        """Return a shard, restored."""
        shard = self._open.get(number)
        version = self._checkpoint.version(self._step, number)
        if shard is None or self._versions[number] != version:
            self._open[number] = shard = self._make(number)
            effects = shard.restore(self._checkpoint.deltas(self._step, number))
            self._versions[number] = version
            self.keep(number, effects)
        return shard

    def keep(self, number: int, effects: Effects) -> Sequence[pa.RecordBatch]:
        """Keep the deltas of effects; return their rows."""
        if effects.deltas or effects.replaces:
            deltas = [(delta.data, delta.newest) for delta in effects.deltas]
            self._checkpoint.keep(self._step, number, deltas, replaces=effects.replaces)
            self._versions[number] = self._checkpoint.version(self._step, number)
            self._untidy[number] = self._untidy.get(number, 0) + len(deltas)
            if self._untidy[number] >= _TIDY_EVERY:
                self._untidy[number] = 0
                self._tidy(number)
        return effects.rows

    def forget(self) -> None:
        """Restore each shard when it is next used, whether or not its last changes were kept."""
        self._open.clear()

    @contextmanager
    def _restored_after_failure(self, number: int) -> Iterator[None]:
        """Restore a shard when it is next used if it fails, as an archive on a full disk does."""
        try:
            yield
        except FraudError:
            self._open.pop(number, None)
            raise

    def _tidy(self, number: int) -> None:
        shard = self._open[number]
        self._checkpoint.drop(self._step, number, shard.needed_from)
        while runs := self._checkpoint.to_merge(self._step, number):
            for last, deltas in runs:
                self._checkpoint.merge(self._step, number, last, shard.merge(deltas))

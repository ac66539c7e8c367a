"""Transactions whose id came before are left out, as far back as a horizon."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from beam_fraud.errors import FraudError
from beam_fraud.event_time import event_micros
from beam_fraud.features.hashing import Hashes, hash_ids
from beam_fraud.shards.id_table import IdTable
from beam_fraud.shards.shard import Delta, Effects
from beam_fraud.sources.raw import is_of_labels

_ALL = -(1 << 63)
#: Ahead of its hashes, a generation has its start and their number.
_HEADER = 2
_WORD = 8


class DeduplicateShard:
    """Leaves out rows of transactions whose id it has seen; the first wins.

    An id is remembered until the newest event time is at least `horizon` later than it was when the
    id came, and at most twice that: ids are kept in generations, a new one starts as soon as the
    newest event time is `horizon` after the start of the last, and two are remembered. A time far
    ahead of all others therefore costs one generation and no more.

    What is kept are segments of 64-bit words: the start of a generation (int64 microseconds), a
    number, as many hashes. A horizon other than before counts from the next generation on.

    Args:
      horizon: microseconds of event time.
      count: called with the number of rows left out, where there are any.
    """

    def __init__(self, horizon: int, count: Callable[[int], None]) -> None:
        self._horizon = horizon
        self._count = count
        self._seen = IdTable()
        #: Starts of the generations remembered: at most two, the older one first.
        self._starts: list[int] = []
        #: Tells which of the two is in the table as odd.
        self._generation = 0

    @property
    def needed_from(self) -> int:
        """Start of the older generation, which is what its deltas have for their newest time."""
        return self._starts[0] if len(self._starts) > 1 else _ALL

    @property
    def waiting(self) -> bool:
        """Never: rows go on at once."""
        return False

    def restore(self, kept: Sequence[bytes]) -> Effects:
        """Remember the ids of the two newest generations."""
        segments = _segments(kept)
        self._starts = sorted(segments)[-2:]
        for generation, start in enumerate(self._starts):
            self._generation = generation
            for hashes in segments[start]:
                self._seen.add(hashes, generation)
        return Effects()

    def take(self, batch: pa.RecordBatch) -> Effects:
        """Rows of `Schema.transactions` without those whose id came before; labels as they are."""
        if is_of_labels(batch):
            return Effects([batch])
        if not batch.num_rows:
            return Effects()
        begun = self._begin(int(event_micros(batch).max()))
        hashes = hash_ids(batch.column("transaction_id"))
        first = self._seen.add(hashes, self._generation)
        if not first.all():
            self._count(int(np.count_nonzero(~first)))
            batch, hashes = batch.filter(pa.array(first)), hashes[first]
        if not batch.num_rows and not begun:
            return Effects()
        start = self._starts[-1]
        delta = Delta(_segment(start, [hashes]), newest=start)
        return Effects(rows=[batch] if batch.num_rows else [], deltas=[delta])

    def tick(self, now: float) -> Effects:
        """Nothing waits."""
        return Effects()

    def finish(self) -> Effects:
        """Nothing waits."""
        return Effects()

    def merge(self, kept: Sequence[bytes]) -> bytes:
        """The segments of each generation in one, without those that are forgotten."""
        segments = _segments(kept)
        needed = [start for start in sorted(segments) if start >= self.needed_from]
        return b"".join(_segment(start, segments[start]) for start in needed)

    def _begin(self, newest: int) -> bool:
        """Start a generation if it is time to; whether it was."""
        if self._starts and newest < self._starts[-1] + self._horizon:
            return False
        if len(self._starts) == 2:
            self._seen.forget(self._generation - 1)
        self._starts = [*self._starts[-1:], newest]
        self._generation += 1
        return True


def _segment(start: int, hashes: Sequence[Hashes]) -> bytes:
    rows = sum(len(part) for part in hashes)
    header = np.array([start, rows], dtype=np.int64)
    return b"".join((header.tobytes(), *(part.tobytes() for part in hashes)))


def _segments(kept: Sequence[bytes]) -> dict[int, list[Hashes]]:
    """Start of a generation to its hashes, in pieces."""
    segments: dict[int, list[Hashes]] = {}
    for data in kept:
        words = np.frombuffer(data, np.int64) if not len(data) % _WORD else np.zeros(1, np.int64)
        while len(words):
            if len(words) < _HEADER or not 0 <= words[1] <= len(words) - _HEADER:
                raise FraudError(
                    "the stream's state: the ids seen so far are damaged; "
                    "start anew with another --out"
                )
            start, end = int(words[0]), _HEADER + int(words[1])
            segments.setdefault(start, []).append(words[_HEADER:end].view(np.uint64))
            words = words[end:]
    return segments

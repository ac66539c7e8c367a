"""Look values up in a list at their event times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.features.hashing import Hashes, IdHash
from beam_fraud.features.sorted_hashes import SortedHashes

Times = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
_FOREVER, _NEVER = np.iinfo(np.int64).max, np.iinfo(np.int64).min


@dataclass(frozen=True)
class Turnover:
    """Numbers of values that joined, left or changed in a list."""

    #: Numbers of values that are in it now and were not, that were and are not, and that end at
    #: another time.
    came: int = 0
    went: int = 0
    moved: int = 0

    def __bool__(self) -> bool:
        return bool(self.came or self.went or self.moved)

    def __add__(self, later: Turnover) -> Turnover:
        return Turnover(self.came + later.came, self.went + later.went, self.moved + later.moved)


@dataclass(frozen=True)
class _Entries:
    """Values by their hashes, and the event times until which they are in the list."""

    known: SortedHashes
    until: Times

    @classmethod
    def of(cls, hashes: Hashes, until: Times) -> _Entries:
        return cls(SortedHashes.of(hashes), until)

    def until_of(self, hashes: Hashes) -> Times:
        """Return the time of each hash; `_NEVER` for one that is no value."""
        rows, places = self.known.search(hashes)
        until = np.full(len(hashes), _NEVER)
        until[rows] = self.until[places]
        return until


class Membership:
    """The values of a list by their hashes.

    64-bit hashes under a random key stand for the values: that a value is taken for one of a
    million others has a probability of 5e-14. One thread may apply changes while others look
    values up: they see all changes of a call, or none.
    """

    def __init__(self) -> None:
        self._hash = IdHash.random()
        self._entries = _Entries.of(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        """Return the number of values, also of those that have ended."""
        return int(np.count_nonzero(self._entries.until > _NEVER))

    def apply(self, changes: pa.Table) -> Turnover:
        """Apply changes (`changes.CHANGES`) in their order: the last one of a value counts."""
        if not changes.num_rows:
            return Turnover()
        entries = self._entries
        known = entries.known
        hashes, until = self._last(changes)
        turnover = _turnover(entries.until_of(hashes), until)
        old, at = known.search(hashes)
        ends = entries.until.copy()
        ends[at] = until[old]
        new = np.delete(np.arange(len(hashes)), old)
        places = np.searchsorted(known.hashes, hashes[new])
        all_hashes = np.insert(known.hashes, places, hashes[new])
        ends = np.insert(ends, places, until[new])
        if known.filter.has_room(len(all_hashes)):
            # A look-up in the old entries that passes in vain finds nothing there.
            known.filter.mark(hashes[new])
            self._entries = _Entries(SortedHashes(all_hashes, known.filter), ends)
        else:
            self._entries = _Entries.of(all_hashes, ends)
        return turnover

    def reload(self, changes: pa.Table) -> Turnover:
        """Replace all values by those of changes."""
        hashes, until = self._last(changes)
        there = until > _NEVER
        hashes, until = hashes[there], until[there]
        before, new = self._entries, _Entries.of(hashes, until)
        turnover = _turnover(before.until_of(hashes), until)
        gone = (before.until > _NEVER) & (new.until_of(before.known.hashes) == _NEVER)
        turnover = Turnover(turnover.came, int(np.count_nonzero(gone)), turnover.moved)
        if turnover:
            self._entries = new
        return turnover

    def _last(self, changes: pa.Table) -> tuple[Hashes, Times]:
        """Return the distinct hashes of values, sorted, and the time until which each is valid."""
        if not changes.num_rows:
            return self._entries.known.hashes[:0], self._entries.until[:0]
        hashes = self._hash.of(changes.column("value").combine_chunks())
        added = pc.equal(changes.column("action"), "add").to_numpy()
        until = changes.column("until").cast(pa.int64()).fill_null(_FOREVER).to_numpy()
        until = np.where(added, until, _NEVER)
        # The last change of each value: the first of each run in reverse order.
        distinct, last = np.unique(hashes[::-1], return_index=True)
        return distinct, until[::-1][last]

    def of(self, column: pa.StringArray, times: Times) -> Flags:
        """Return whether each value is in the list.

        Args:
          column: string[n]; a null is not in it.
          times: int64[n], event times in microseconds.

        Returns:
          bool[n].
        """
        result = np.zeros(len(column), dtype=bool)
        entries = self._entries
        if not len(entries.known):
            return result
        rows, places = entries.known.search(self._hash.of(column))
        result[rows] = entries.until[places] > times[rows]
        if column.null_count:
            result &= column.is_valid().to_numpy(zero_copy_only=False)
        return result

    def count(self, time: int) -> int:
        """Return the number of values that are in the list at a time in microseconds."""
        return int(np.count_nonzero(self._entries.until > time))


def _turnover(before: Times, after: Times) -> Turnover:
    """Return what became of values, by the times until which they were and are in the list."""
    was, is_ = before > _NEVER, after > _NEVER
    moved = was & is_ & (before != after)
    return Turnover(*(int(np.count_nonzero(some)) for some in (is_ & ~was, was & ~is_, moved)))

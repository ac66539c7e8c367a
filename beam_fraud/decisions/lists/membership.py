"""Look values up in a list at their event times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.features.hashing import Hashes, IdHash

Times = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
#: Bits of a filter above those of the number of values: one look-up in 16 passes it in vain.
_SPARE_BITS = 4
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
class _Filter:
    """A byte for the first bits of hashes: whether a value begins with them."""

    marks: Flags
    #: Bits of a hash behind them.
    shift: np.uint64

    @classmethod
    def of(cls, hashes: Hashes) -> _Filter:
        # Twice the room that is needed now: a growing list seldom fills it again.
        bits = max(len(hashes), 1 << 8).bit_length() + _SPARE_BITS
        made = cls(np.zeros(1 << bits, dtype=bool), np.uint64(64 - bits))
        made.mark(hashes)
        return made

    def mark(self, hashes: Hashes) -> None:
        self.marks[(hashes >> self.shift).astype(np.int64)] = True

    def passes(self, hashes: Hashes) -> npt.NDArray[np.int64]:
        """Return the places of hashes that may be of values."""
        return np.flatnonzero(self.marks[(hashes >> self.shift).astype(np.int64)])

    def has_room(self, count: int) -> bool:
        return count << _SPARE_BITS <= len(self.marks)


@dataclass(frozen=True)
class _Entries:
    """Values by their hashes, sorted, and the event times until which they are in the list."""

    hashes: Hashes
    until: Times
    filter: _Filter

    @classmethod
    def of(cls, hashes: Hashes, until: Times) -> _Entries:
        return cls(hashes, until, _Filter.of(hashes))

    def until_of(self, hashes: Hashes) -> Times:
        """Return the time of each hash; `_NEVER` for one that is no value."""
        if not len(self.hashes):
            return np.full(len(hashes), _NEVER)
        places = np.searchsorted(self.hashes, hashes)
        places[places == len(self.hashes)] = 0
        return np.where(self.hashes[places] == hashes, self.until[places], _NEVER)


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
        known = self._entries
        hashes, until = self._last(changes)
        turnover = _turnover(known.until_of(hashes), until)
        places = np.searchsorted(known.hashes, hashes)
        inside = np.minimum(places, max(len(known.hashes) - 1, 0))
        old = known.hashes[inside] == hashes if len(known.hashes) else np.zeros(len(hashes), bool)
        ends = known.until.copy()
        ends[places[old]] = until[old]
        new = ~old
        all_hashes = np.insert(known.hashes, places[new], hashes[new])
        ends = np.insert(ends, places[new], until[new])
        if known.filter.has_room(len(all_hashes)):
            # A look-up in the old entries that passes in vain finds nothing there.
            known.filter.mark(hashes[new])
            self._entries = _Entries(all_hashes, ends, known.filter)
        else:
            self._entries = _Entries.of(all_hashes, ends)
        return turnover

    def reload(self, changes: pa.Table) -> Turnover:
        """Replace all values by those of changes."""
        hashes, until = self._last(changes)
        there = until > _NEVER
        hashes, until = hashes[there], until[there]
        known, new = self._entries, _Entries.of(hashes, until)
        turnover = _turnover(known.until_of(hashes), until)
        gone = (known.until > _NEVER) & (new.until_of(known.hashes) == _NEVER)
        turnover = Turnover(turnover.came, int(np.count_nonzero(gone)), turnover.moved)
        if turnover:
            self._entries = new
        return turnover

    def _last(self, changes: pa.Table) -> tuple[Hashes, Times]:
        """Return the distinct hashes of values, sorted, and the time until which each is valid."""
        if not changes.num_rows:
            return self._entries.hashes[:0], self._entries.until[:0]
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
        if not len(entries.hashes):
            return result
        hashes = self._hash.of(column)
        # Most values are in no list: one byte of the filter tells, without a search.
        rows = entries.filter.passes(hashes)
        result[rows] = entries.until_of(hashes[rows]) > times[rows]
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

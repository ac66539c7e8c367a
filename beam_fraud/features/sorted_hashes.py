"""Search many hashes among sorted ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beam_fraud.features.hashing import Hashes

Places = npt.NDArray[np.int64]
#: Bits of a filter above those of the number of values: one look-up in 16 passes it in vain.
_SPARE_BITS = 4


@dataclass(frozen=True)
class HashFilter:
    """A byte for the first bits of hashes: whether a value begins with them."""

    marks: npt.NDArray[np.bool_]
    #: Bits of a hash behind them.
    shift: np.uint64

    @classmethod
    def of(cls, hashes: Hashes) -> HashFilter:
        """Return the filter of hashes, uint64[k], with room for as many again."""
        # Twice the room that is needed now: a growing list seldom fills it again.
        bits = max(len(hashes), 1 << 8).bit_length() + _SPARE_BITS
        made = cls(np.zeros(1 << bits, dtype=bool), np.uint64(64 - bits))
        made.mark(hashes)
        return made

    def mark(self, hashes: Hashes) -> None:
        """Let further hashes pass."""
        self.marks[(hashes >> self.shift).astype(np.int64)] = True

    def passes(self, hashes: Hashes) -> Places:
        """Return the places of hashes that may be of values."""
        return np.flatnonzero(self.marks[(hashes >> self.shift).astype(np.int64)])

    def has_room(self, count: int) -> bool:
        """Return whether it stays selective with so many hashes."""
        return count << _SPARE_BITS <= len(self.marks)


@dataclass(frozen=True)
class SortedHashes:
    """Hashes in which others are searched; pickle leaves out the filter, which is made again."""

    #: Ascending, uint64[k].
    hashes: Hashes
    #: Passes all of them.
    filter: HashFilter

    @classmethod
    def of(cls, hashes: Hashes) -> SortedHashes:
        """Return these for ascending hashes, uint64[k]."""
        return cls(hashes, HashFilter.of(hashes))

    def __reduce__(self) -> tuple[Callable[[Hashes], SortedHashes], tuple[Hashes]]:
        return SortedHashes.of, (self.hashes,)

    def __len__(self) -> int:
        return len(self.hashes)

    def search(self, hashes: Hashes) -> tuple[Places, Places]:
        """Find which hashes are among these.

        Args:
          hashes: uint64[n].

        Returns:
          int64[m], the places of those that are, ascending; and int64[m], where they are here.
        """
        # Most values are in no list: one byte of the filter tells, without a search.
        rows = self.filter.passes(hashes)
        if not len(rows) or not len(self.hashes):
            return rows[:0], rows[:0]
        wanted = hashes[rows]
        places = np.searchsorted(self.hashes, wanted)
        places[places == len(self.hashes)] = 0
        same = self.hashes[places] == wanted
        return rows[same], places[same]

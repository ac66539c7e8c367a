"""The hashed ids of two generations, in which small batches are looked up fast."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from beam_fraud.features.hashing import Hashes

#: Marks an empty slot.
_EMPTY = np.uint64(0)
#: The last bit of a slot is that of the id's generation.
_GENERATION = np.uint64(1)
#: The smallest hash that is not taken for an empty slot, its last bit set.
_SMALLEST = np.uint64(3)
#: Part of the slots that may be taken: above it, look-ups need many steps.
_FULLEST = 0.5
_FEWEST_LOG2 = 10
#: Slots that are moved to a new table at once; some arrays of this size are in memory then.
_MOVED = 1 << 18


class IdTable:
    """Hashes of ids, of which 63 bits count, and whether each is of an even or odd generation.

    Takes 16 to 32 bytes an id, and for a moment the double when it grows or forgets.
    `records.duplicates.SeenIds` takes less, but has to search all of its runs: with blocks of a
    thousand rows among a million ids that takes three times as long.

    A hash lies in the slot that its upper bits name, or in the first that is free at steps which
    its lower bits say.

    Example:
      >>> import numpy as np
      >>> table = IdTable()
      >>> table.add(np.array([70, 80, 70], dtype=np.uint64), generation=0).tolist()
      [True, True, False]
      >>> table.add(np.array([80, 90], dtype=np.uint64), generation=1).tolist()
      [False, True]
      >>> table.forget(generation=0)
      >>> table.add(np.array([80, 90], dtype=np.uint64), generation=2).tolist()
      [True, False]
    """

    def __init__(self) -> None:
        self._allocate(_FEWEST_LOG2)

    @property
    def nbytes(self) -> int:
        """Memory that the table takes."""
        return self._slots.nbytes

    def add(self, hashes: Hashes, generation: int) -> npt.NDArray[np.bool_]:
        """Put those of `hashes` into the table that are not in it, of whatever generation.

        Args:
          hashes: uint64[n].
          generation: which one they are of; only whether it is odd counts.

        Returns:
          bool[n]: true for the first of those that are equal, unless it was there before.
        """
        wanted = np.maximum(hashes | _GENERATION, _SMALLEST) - np.uint64(1 - generation % 2)
        order = np.sort(wanted)
        if not (order[1:] == order[:-1]).any():
            return self._add(wanted)
        distinct, first = np.unique(wanted, return_index=True)
        new = np.zeros(len(hashes), dtype=bool)
        new[first] = self._add(distinct)
        return new

    def forget(self, generation: int) -> None:
        """Take the hashes of a generation out, and of all that are odd or even as it is."""
        self._move(generation % 2, 0)

    def _add(self, wanted: Hashes) -> npt.NDArray[np.bool_]:
        """As `add`, of distinct hashes with the bit of their generation."""
        if self._taken + len(wanted) > len(self._slots) * _FULLEST:
            self._move(None, len(wanted))
        slots = self._slots
        new = np.zeros(len(wanted), dtype=bool)
        rows = np.arange(len(wanted))
        places = (wanted >> self._shift).view(np.int64)
        while len(rows):
            free = np.flatnonzero(slots[places] == _EMPTY)
            slots[places[free]] = wanted[free]
            new[rows[free]] = True
            # Of several that wanted one slot, the last has it; the others take steps.
            again = np.flatnonzero((slots[places] ^ wanted) > _GENERATION)
            rows, wanted, places = rows[again], wanted[again], places[again]
            places = (places + (wanted.view(np.int64) | 1)) & (len(slots) - 1)
        self._taken += int(np.count_nonzero(new))
        return new

    def _move(self, without: int | None, more: int) -> None:
        """Make the table anew, without a generation, with room for some more."""
        before, kept = self._slots, self._taken
        if without is not None:
            gone = (before != _EMPTY) & (before & _GENERATION == np.uint64(without))
            before[gone] = _EMPTY
            kept -= int(np.count_nonzero(gone))
        log2 = _FEWEST_LOG2
        while (1 << log2) * _FULLEST < kept + more:
            log2 += 1
        self._allocate(log2)
        for start in range(0, len(before), _MOVED):
            piece = before[start : start + _MOVED]
            self._add(piece[piece != _EMPTY])

    def _allocate(self, log2: int) -> None:
        self._slots = np.zeros(1 << log2, dtype=np.uint64)
        self._shift = np.uint64(64 - log2)
        self._taken = 0

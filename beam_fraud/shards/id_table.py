"""The hashed ids of a generation, in which small batches are looked up fast."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from beam_fraud.features.hashing import WideHashes

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

#: First word of an empty slot.
_EMPTY = np.uint64(0)
#: Part of the slots that may be taken: above it, look-ups need many steps.
_FULLEST = 0.6
_FEWEST_LOG2 = 10
#: Slots that are moved to a new table at once; some arrays of this size are in memory then.
_MOVED = 1 << 18


class IdTable:
    """Hashes of 128 bits of ids (`IdHash.wide`).

    Takes 27 to 54 bytes an id, and for a moment half as much again when it grows.
    `records.duplicates.SeenIds` takes less, but has to search all of its runs: with blocks of a
    thousand rows among a million ids that takes three times as long.

    A hash lies in the slot that the upper bits of its first word name, or in the first that is free
    at steps which the lower bits say. Nobody who does not know the key can choose ids that want the
    same slots.

    Example:
      >>> import numpy as np
      >>> table = IdTable()
      >>> table.add(np.array([[70, 80, 70], [1, 1, 1]], dtype=np.uint64)).tolist()
      [True, True, False]
      >>> table.has(np.array([[80, 80], [1, 2]], dtype=np.uint64)).tolist()
      [True, False]
    """

    def __init__(self) -> None:
        self._allocate(_FEWEST_LOG2)

    @property
    def nbytes(self) -> int:
        """Memory that the table takes."""
        return self._slots.nbytes

    def has(self, hashes: WideHashes) -> Mask:
        """Which of `hashes` (uint64[2, n]) are in the table; bool[n]."""
        first, second = _marked(hashes)
        known = np.zeros(len(first), dtype=bool)
        rows, places = np.arange(len(first)), self._places(first)
        while len(rows):
            same, taken = self._compared(places, first, second)
            known[rows[same]] = True
            rows, first, second, places = _onward(taken & ~same, rows, first, second, places)
            places = self._next(places, first)
        return known

    def add(self, hashes: WideHashes) -> Mask:
        """Put those of `hashes` into the table that are not in it.

        Args:
          hashes: uint64[2, n].

        Returns:
          bool[n]: true for the first of those that are equal, unless it was there before.
        """
        first, second = _marked(hashes)
        order = np.sort(first)
        if not (order[1:] == order[:-1]).any():
            return self._add(first, second)
        rows = np.lexsort((second, first))
        again = (first[rows[1:]] == first[rows[:-1]]) & (second[rows[1:]] == second[rows[:-1]])
        rows = rows[np.concatenate(([True], ~again))]
        new = np.zeros(len(first), dtype=bool)
        new[rows] = self._add(first[rows], second[rows])
        return new

    def _add(self, first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64]) -> Mask:
        """As `add`, of distinct hashes without an empty first word."""
        if self._taken + len(first) > len(self._slots) * _FULLEST:
            self._grow(len(first))
        new = np.zeros(len(first), dtype=bool)
        rows, places = np.arange(len(first)), self._places(first)
        while len(rows):
            free = np.flatnonzero(self._slots[places, 0] == _EMPTY)
            self._slots[places[free], 0] = first[free]
            self._slots[places[free], 1] = second[free]
            new[rows[free]] = True
            # Of several that wanted one slot, the last has it; the others take steps.
            same, _ = self._compared(places, first, second)
            new[rows[~same]] = False
            rows, first, second, places = _onward(~same, rows, first, second, places)
            places = self._next(places, first)
        self._taken += int(np.count_nonzero(new))
        return new

    def _compared(
        self, places: Places, first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64]
    ) -> tuple[Mask, Mask]:
        """Which slots hold the hashes, and which hold anything; bool[n] each."""
        there = self._slots[places, 0]
        same = there == first
        held = np.flatnonzero(same)
        same[held] = self._slots[places[held], 1] == second[held]
        return same, there != _EMPTY

    def _places(self, first: npt.NDArray[np.uint64]) -> Places:
        return (first >> self._shift).view(np.int64)

    def _next(self, places: Places, first: npt.NDArray[np.uint64]) -> Places:
        return (places + (first.view(np.int64) | 1)) & (len(self._slots) - 1)

    def _grow(self, more: int) -> None:
        """Move all to a larger table, with room for some more."""
        before, log2 = self._slots, _FEWEST_LOG2
        while (1 << log2) * _FULLEST < self._taken + more:
            log2 += 1
        self._allocate(log2)
        for start in range(0, len(before), _MOVED):
            piece = before[start : start + _MOVED]
            piece = piece[piece[:, 0] != _EMPTY]
            self._add(piece[:, 0].copy(), piece[:, 1].copy())

    def _allocate(self, log2: int) -> None:
        #: The words of a hash side by side: they are looked at together.
        self._slots = np.zeros((1 << log2, 2), dtype=np.uint64)
        self._shift = np.uint64(64 - log2)
        self._taken = 0


def _marked(hashes: WideHashes) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """First words, none of which is that of an empty slot, and second words."""
    return np.maximum(hashes[0], np.uint64(1)), hashes[1]


def _onward(
    some: Mask,
    rows: Places,
    first: npt.NDArray[np.uint64],
    second: npt.NDArray[np.uint64],
    places: Places,
) -> tuple[Places, npt.NDArray[np.uint64], npt.NDArray[np.uint64], Places]:
    kept = np.flatnonzero(some)
    return rows[kept], first[kept], second[kept], places[kept]

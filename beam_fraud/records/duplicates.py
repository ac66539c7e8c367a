"""Repeated transaction ids: the first position wins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.features.hashing import IdHash, WideHashes

#: Hashes per piece: so many are in memory twice for a moment while two runs merge.
_PIECE = 1 << 18


class SeenIds:
    """128-bit hashes of all ids so far, under a key of their own.

    They take 16 bytes per id and a constant of some 10 MB: they are in sorted runs, each more than
    twice as long as the next, so that a look-up searches few runs and each hash moves few times;
    runs are divided into pieces and merged piece by piece.

    Example:
      >>> seen = SeenIds()
      >>> seen.first_time(pa.array(["a", "b", "a"])).tolist()
      [True, True, False]
      >>> seen.first_time(pa.array(["b", "c"])).tolist()
      [False, True]
    """

    def __init__(self) -> None:
        self._hash = IdHash.random()
        self._runs: list[_Run] = []

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(piece.nbytes for run in self._runs for piece in run.pieces)

    def first_time(self, ids: pa.StringArray) -> npt.NDArray[np.bool_]:
        """Return which of these ids are new, and add them.

        Args:
          ids: string[n].

        Returns:
          bool[n]: True for the first row of an id that no earlier call has added.
        """
        return self.first_of(self._hash.wide(ids))

    def first_of(self, hashes: WideHashes) -> npt.NDArray[np.bool_]:
        """Return the same for hashes (uint64[2, n])."""
        rows = _distinct(hashes)
        ordered = hashes.take(rows, axis=1)
        new = self._unseen(ordered)
        if not new.all():
            rows, ordered = rows[new], ordered.compress(new, axis=1)
        self._add(_Run([ordered]))
        mask = np.zeros(hashes.shape[1], dtype=bool)
        mask[rows] = True
        return mask

    def _unseen(self, hashes: WideHashes) -> npt.NDArray[np.bool_]:
        """Return which of these hashes, sorted by their first words, are in no run."""
        new = np.ones(hashes.shape[1], dtype=bool)
        for run in self._runs:
            bounds = _bounds(hashes, len(run.pieces))
            for piece, start, end in zip(run.pieces, bounds, bounds[1:], strict=False):
                new[start:end][_places_of_known(piece, hashes[:, start:end])] = False
        return new

    def _add(self, run: _Run) -> None:
        if not run.length:
            return
        while self._runs and self._runs[-1].length <= 2 * run.length:
            run = _merged(self._runs.pop(), run)
        self._runs.append(run)


class _Run:
    """Hashes sorted by their first words."""

    def __init__(self, pieces: list[WideHashes]) -> None:
        #: Pieces by 1, 2, 4, .. equal ranges of first words, which keyed hashes fill evenly.
        self.pieces = pieces
        self.length = sum(piece.shape[1] for piece in pieces)

    def take(self, number: int, ranges: int) -> WideHashes:
        """Remove and return the hashes of one range; a piece is freed with its last range."""
        place, part = divmod(number, ranges // len(self.pieces))
        piece, parts = self.pieces[place], ranges // len(self.pieces)
        if part == parts - 1:
            self.pieces[place] = piece[:, :0].copy()
        bounds = _bounds(piece, ranges)
        return piece[:, bounds[number] : bounds[number + 1]]


def _merged(older: _Run, newer: _Run) -> _Run:
    """Return all hashes of two runs, which are empty afterwards."""
    fill = (older.length + newer.length - 1) // _PIECE
    ranges = max(len(older.pieces), len(newer.pieces), 1 << fill.bit_length())
    return _Run([_joined(older.take(i, ranges), newer.take(i, ranges)) for i in range(ranges)])


def _joined(older: WideHashes, newer: WideHashes) -> WideHashes:
    places = np.searchsorted(older[0], newer[0])
    places += np.arange(len(places))
    rest = np.ones(older.shape[1] + newer.shape[1], dtype=bool)
    rest[places] = False
    joined = np.empty((2, len(rest)), dtype=np.uint64)
    for word, old, new in zip(joined, older, newer, strict=True):
        word[rest] = old
        word[places] = new
    return joined


def _bounds(hashes: WideHashes, ranges: int) -> list[int]:
    """Return where equal ranges of first words start in sorted hashes, and the end."""
    starts = np.arange(1, ranges, dtype=np.uint64) << np.uint64(65 - ranges.bit_length())
    return [0, *np.searchsorted(hashes[0], starts).tolist(), hashes.shape[1]]


def _places_of_known(piece: WideHashes, hashes: WideHashes) -> npt.NDArray[np.int64]:
    """Return positions of sorted hashes that are in the piece."""
    if not piece.shape[1]:
        return np.zeros(0, dtype=np.int64)
    places = np.minimum(np.searchsorted(piece[0], hashes[0]), piece.shape[1] - 1)
    known: npt.NDArray[np.int64] = np.flatnonzero(piece[0, places] == hashes[0])
    same = piece[1, places[known]] == hashes[1, known]
    for row in np.flatnonzero(~same):
        # Two ids with equal first words: such pairs occur in tests only.
        start = int(places[known[row]])
        end = int(np.searchsorted(piece[0], hashes[0, known[row]], side="right"))
        same[row] = hashes[1, known[row]] in piece[1, start:end]
    result: npt.NDArray[np.int64] = known[same]
    return result


def _distinct(hashes: WideHashes) -> npt.NDArray[np.int64]:
    """Return the first row of each hash, sorted by first words."""
    rows = hashes.shape[1]
    # Row numbers replace the lowest bits: NumPy sorts numbers faster than positions.
    low = np.uint64((1 << max(rows - 1, 0).bit_length()) - 1)
    packed = np.sort(hashes[0] & ~low | np.arange(rows, dtype=np.uint64))
    order: npt.NDArray[np.int64] = (packed & low).view(np.int64)
    first = hashes[0, order]
    if (first[1:] > first[:-1]).all():
        return order
    order = np.lexsort((hashes[1], hashes[0]))
    ordered = hashes[:, order]
    other = np.ones(rows, dtype=bool)
    other[1:] = (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)
    distinct: npt.NDArray[np.int64] = order[other]
    return distinct


def repeated(hashes: WideHashes, *order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the rows whose id an earlier row has.

    Args:
      hashes: uint64[2, n] of `IdHash.wide`.
      order: int64[n] each: sort keys of the rows, most significant first.

    Returns:
      int64[d]: positions in `hashes` of all rows but the first of each id.
    """
    rows = np.lexsort((*reversed(order), hashes[1], hashes[0]))
    ordered = hashes.take(rows, axis=1)
    return np.sort(rows[1:][(ordered[:, 1:] == ordered[:, :-1]).all(axis=0)])

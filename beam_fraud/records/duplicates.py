"""Repeated transaction ids: the first position wins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.features.hashing import Hashes, IdHash, WideHashes


class SeenIds:
    """Hashes of 128 bits of all ids seen so far, under a key of their own.

    They take 16 bytes an id, and about 30 while the two longest runs become one: they
    lie in sorted runs of which each is more than twice as long as the next, so that a look-up
    searches few of them and each hash is moved few times.

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
        return sum(run.first.nbytes + run.second.nbytes for run in self._runs)

    def first_time(self, ids: pa.StringArray) -> npt.NDArray[np.bool_]:
        """Which of these ids were not seen before, and remember them.

        Args:
          ids: string[n].

        Returns:
          bool[n]: true for the first row of an id that no earlier call has seen.
        """
        return self.first_of(self._hash.wide(ids))

    def first_of(self, hashes: WideHashes) -> npt.NDArray[np.bool_]:
        """The same of ids whose hashes (uint64[2, n]) are known."""
        rows = _distinct(hashes)
        first, second = hashes[0, rows], hashes[1, rows]
        new = self._unseen(first, second)
        if not new.all():
            rows, first, second = rows[new], first[new], second[new]
        self._add(_Run(first, second))
        mask = np.zeros(hashes.shape[1], dtype=bool)
        mask[rows] = True
        return mask

    def _unseen(self, first: Hashes, second: Hashes) -> npt.NDArray[np.bool_]:
        """Which of these hashes, sorted by their first words, are in no run."""
        new = np.ones(len(first), dtype=bool)
        for run in self._runs:
            new[run.places_of_known(first, second)] = False
        return new

    def _add(self, run: _Run) -> None:
        if not len(run.first):
            return
        while self._runs and len(self._runs[-1].first) <= 2 * len(run.first):
            self._runs[-1].merge(run)
            run = self._runs.pop()
        self._runs.append(run)


class _Run:
    """Hashes in the order of their first words."""

    def __init__(self, first: Hashes, second: Hashes) -> None:
        self.first, self.second = first, second

    def places_of_known(self, first: Hashes, second: Hashes) -> npt.NDArray[np.int64]:
        """Places in `first`, which is sorted, of the hashes that are in this run."""
        places = np.minimum(np.searchsorted(self.first, first), len(self.first) - 1)
        known: npt.NDArray[np.int64] = np.flatnonzero(self.first[places] == first)
        same = self.second[places[known]] == second[known]
        for row in np.flatnonzero(~same):
            # Two ids whose first words agree: no such pair is ever met but in tests.
            start = int(places[known[row]])
            end = int(np.searchsorted(self.first, first[known[row]], side="right"))
            same[row] = second[known[row]] in self.second[start:end]
        found: npt.NDArray[np.int64] = known[same]
        return found

    def merge(self, newer: _Run) -> None:
        """Take the hashes of another run in, one word after the other."""
        places = np.searchsorted(self.first, newer.first)
        places += np.arange(len(places))
        kept = np.ones(len(self.first) + len(newer.first), dtype=bool)
        kept[places] = False
        self.first = _merged(self.first, newer.first, places, kept)
        self.second = _merged(self.second, newer.second, places, kept)


def _merged(
    older: Hashes, newer: Hashes, places: npt.NDArray[np.int64], kept: npt.NDArray[np.bool_]
) -> Hashes:
    merged = np.empty(len(kept), dtype=np.uint64)
    merged[kept] = older
    merged[places] = newer
    return merged


def _distinct(hashes: WideHashes) -> npt.NDArray[np.int64]:
    """The first row of each hash, in the order of the hashes' first words."""
    rows = hashes.shape[1]
    # Numbers of rows in the place of the lowest bits: NumPy sorts numbers faster than places.
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
    """Rows whose id an earlier row has.

    Args:
      hashes: uint64[2, n] of `IdHash.wide`.
      order: int64[n] each: what tells which row is earlier, the most significant first.

    Returns:
      int64[d]: places in `hashes` of all rows but the first of each id.
    """
    rows = np.lexsort((*reversed(order), hashes[1], hashes[0]))
    ordered = hashes[:, rows]
    return np.sort(rows[1:][(ordered[:, 1:] == ordered[:, :-1]).all(axis=0)])

"""Repeated transaction ids: the first position wins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes = npt.NDArray[np.uint64]

_WORD = 8
#: Keeps the first 0 .. 8 bytes of a little-endian word.
_MASKS = np.array([(1 << 8 * kept) - 1 for kept in range(_WORD + 1)], dtype=np.uint64)


def hash_ids(ids: pa.StringArray) -> Hashes:
    """A 64-bit hash of each id, the same in every process.

    Eight bytes at a time are mixed in as by Murmur3's 64-bit finaliser (Appleby, 2011). Among a
    billion different ids two agree by chance with a probability of about 3 % (n**2 / 2**65), which
    would cost one row, as a counted duplicate.

    Args:
      ids: string[n], no nulls.

    Returns:
      uint64[n].
    """
    if not len(ids):
        return np.zeros(0, dtype=np.uint64)
    _, offsets, data = ids.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[ids.offset :][: len(ids) + 1].astype(np.int64)
    text = np.frombuffer(data or b"", dtype=np.uint8)[bounds[0] : bounds[-1]]
    # Zeros behind the last id, so that eight bytes can be taken anywhere.
    padded = np.concatenate((text, np.zeros(_WORD, dtype=np.uint8)))
    words = np.ndarray(len(text) + 1, dtype="<u8", buffer=padded, strides=(1,))
    starts, lengths = bounds[:-1] - bounds[0], np.diff(bounds)
    hashes = lengths.astype(np.uint64)
    rows: npt.NDArray[np.int64] | slice = slice(None)
    for done in range(0, max(int(lengths.max()), 1), _WORD):
        if done:
            rows = np.flatnonzero(lengths > done)
        left = np.minimum(lengths[rows] - done, _WORD)
        hashes[rows] = _mixed(hashes[rows] ^ _mixed(words[starts[rows] + done] & _MASKS[left]))
    return hashes


def _mixed(words: Hashes) -> Hashes:
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return (words ^ (words >> np.uint64(33))) + np.uint64(0x9E3779B97F4A7C15)


class SeenIds:
    """The hashes of all ids seen so far: 8 bytes each, 16 while they are put in order.

    They lie in sorted runs of which each is more than twice as long as the next, so that a look-up
    searches few of them and each hash is moved few times.

    Example:
      >>> seen = SeenIds()
      >>> seen.first_time(hash_ids(pa.array(["a", "b", "a"]))).tolist()
      [True, True, False]
      >>> seen.first_time(hash_ids(pa.array(["b", "c"]))).tolist()
      [False, True]
    """

    def __init__(self) -> None:
        self._runs: list[Hashes] = []

    def first_time(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Which of these ids were not seen before, and remember them.

        Args:
          hashes: uint64[n] of `hash_ids`.

        Returns:
          bool[n]: true for the first row of an id that no earlier call has seen.
        """
        distinct = np.sort(hashes)
        if not (distinct[1:] == distinct[:-1]).any() and self._unseen(distinct).all():
            self._add(distinct)
            return np.ones(len(hashes), dtype=bool)
        distinct, first = np.unique(hashes, return_index=True)
        new = self._unseen(distinct)
        self._add(distinct[new])
        mask = np.zeros(len(hashes), dtype=bool)
        mask[first[new]] = True
        return mask

    def _unseen(self, distinct: Hashes) -> npt.NDArray[np.bool_]:
        """Which of these sorted hashes are in no run."""
        new = np.ones(len(distinct), dtype=bool)
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, distinct), len(run) - 1)
            new &= run[places] != distinct
        return new

    def _add(self, run: Hashes) -> None:
        if not len(run):
            return
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.concatenate((self._runs.pop(), run))
            # Both halves are sorted, which a merge sort makes use of.
            run.sort(kind="stable")
        self._runs.append(run)


def repeated(hashes: Hashes, *order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rows whose id an earlier row has.

    Args:
      hashes: uint64[n] of `hash_ids`.
      order: int64[n] each: what tells which row is earlier, the most significant first.

    Returns:
      int64[d]: places in `hashes` of all rows but the first of each id.
    """
    rows = np.lexsort((*reversed(order), hashes))
    ordered = hashes[rows]
    return np.sort(rows[1:][ordered[1:] == ordered[:-1]])

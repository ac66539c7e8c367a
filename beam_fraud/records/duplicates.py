"""Repeated transaction ids: the first position wins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from beam_fraud.features.hashing import Hashes


class SeenIds:
    """The hashes of all ids seen so far: 8 bytes each, 16 while they are put in order.

    Two ids that agree by chance cost one row, as a counted duplicate.

    They lie in sorted runs of which each is more than twice as long as the next, so that a look-up
    searches few of them and each hash is moved few times.

    Example:
      >>> import pyarrow as pa
      >>> from beam_fraud.features.hashing import hash_ids
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

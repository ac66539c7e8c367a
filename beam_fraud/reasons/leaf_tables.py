"""Leaves whose Shapley values were computed beforehand for all that a row may satisfy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from beam_fraud.reasons.leaf_shapley import Floats, tabulate
from beam_fraud.reasons.slots import Slot

#: Leaves with more features than this have no table: one more doubles its size.
_WIDEST = 12
#: Numbers in the tables of a model at most, 8 bytes each.
_LARGEST = 1 << 23


def widest_table(sizes: npt.NDArray[np.int64]) -> int:
    """How many features leaves with a table have at most, so that the tables stay small.

    Args:
      sizes: int64[leaves], how many features each has.
    """
    numbers = [int(np.count_nonzero(sizes == u)) * u * 2**u for u in range(_WIDEST + 1)]
    return int(np.count_nonzero(np.cumsum(numbers) <= _LARGEST)) - 1


class LeafTables:
    """The tables of many leaves as one array."""

    def __init__(self, values: Floats, shares: Floats, sizes: npt.NDArray[np.int64]) -> None:
        """Compute the tables.

        Args:
          values: float64[leaves], what a row gets that reaches the leaf.
          shares: float64[leaves, slots], of training rows that satisfy each condition.
          sizes: int64[leaves], how many slots each leaf has.
        """
        tables, start = [], 0
        #: int64[leaves], where the table of each begins.
        self._start = np.zeros(len(sizes), dtype=np.int64)
        #: int64[leaves], how many numbers it has for a slot.
        self._length = 2**sizes
        for size in np.unique(sizes).tolist():
            here = np.flatnonzero(sizes == size)
            table = tabulate(values[here], shares[here, :size])
            tables.append(table.ravel())
            self._start[here] = start + np.arange(len(here)) * table[0].size
            start += table.size
        self._table = np.concatenate([*tables, np.empty(0)])

    def add(
        self, masks: npt.NDArray[np.unsignedinteger], slots: Sequence[Slot], to: Floats
    ) -> None:
        """Add the contributions of rows.

        Args:
          masks: [leaves, n], what each row satisfies.
          slots: what adds the first leaves' contributions up.
          to: float64[features, n], where to.
        """
        for number, slot in enumerate(slots):
            starts = self._start[: slot.leaves] + number * self._length[: slot.leaves]
            places = np.add(masks[: slot.leaves], starts[:, None], dtype=np.intp)
            to += slot.sums @ np.take(self._table, places, mode="clip")

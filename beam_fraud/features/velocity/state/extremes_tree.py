"""The smallest and largest amount of any range of rows, in 4 bytes per row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beam_fraud.features.velocity.fixed_point import Units

Integers = npt.NDArray[np.int64]

#: Rows per leaf; rows at the ends of a range are compared one by one.
_LEAF = 8
#: Extremes of an empty range.
NO_LEAST, NO_MOST = np.iinfo(np.int64).max, np.iinfo(np.int64).min


@dataclass(frozen=True)
class ExtremesTree:
    """Extremes of 8, 16, 32, .. rows: a segment tree, leaves first.

    Node `i` of a level covers nodes `2 * i` and `2 * i + 1` of the level below. Only complete nodes
    are stored.
    """

    #: Per level int64[nodes], the smallest amounts.
    least: tuple[Units, ...]
    #: Per level int64[nodes], the largest amounts.
    most: tuple[Units, ...]

    @classmethod
    def of(cls, amounts: Units) -> ExtremesTree:
        """Return the tree of amounts, int64[n]."""
        leaves = amounts[: len(amounts) // _LEAF * _LEAF].reshape(-1, _LEAF)
        least, most = [leaves.min(axis=1)], [leaves.max(axis=1)]
        while len(least[-1]) > 1:
            even = len(least[-1]) // 2 * 2
            least.append(np.minimum(least[-1][0:even:2], least[-1][1:even:2]))
            most.append(np.maximum(most[-1][0:even:2], most[-1][1:even:2]))
        return cls(tuple(least), tuple(most))

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(level.nbytes for level in (*self.least, *self.most))

    def of_ranges(self, first: Integers, end: Integers, prefix: Units) -> tuple[Units, Units]:
        """Return the extremes of the rows from `first` to before `end`.

        Args:
          first: int64[m].
          end: int64[m], not before `first`.
          prefix: int64[n + 1], prefix sums of the amounts.

        Returns:
          least and most, int64[m]; `NO_LEAST` and `NO_MOST` of an empty range.
        """
        left, right = -(-first // _LEAF), end // _LEAF
        least, most = _of_few(first, np.minimum(left * _LEAF, end), prefix)
        tail_least, tail_most = _of_few(np.maximum(right * _LEAF, first), end, prefix)
        least, most = np.minimum(least, tail_least), np.maximum(most, tail_most)
        for level_least, level_most in zip(self.least, self.most, strict=True):
            open_ranges = left < right
            if not open_ranges.any():
                break
            # Use the nodes without a parent inside the range.
            odd_left = np.flatnonzero(open_ranges & (left % 2 == 1))
            odd_right = np.flatnonzero(open_ranges & (right % 2 == 1))
            for rows, nodes in ((odd_left, left[odd_left]), (odd_right, right[odd_right] - 1)):
                least[rows] = np.minimum(least[rows], level_least[nodes])
                most[rows] = np.maximum(most[rows], level_most[nodes])
            left, right = (left + 1) // 2, right // 2
        return least, most


def _of_few(first: Integers, end: Integers, prefix: Units) -> tuple[Units, Units]:
    """Return the extremes of ranges of at most `_LEAF` rows."""
    rows = first[:, None] + np.arange(_LEAF)
    inside = rows < end[:, None]
    np.minimum(rows, len(prefix) - 2, out=rows)
    amounts = prefix[rows + 1] - prefix[rows]
    return (
        np.where(inside, amounts, NO_LEAST).min(axis=1),
        np.where(inside, amounts, NO_MOST).max(axis=1),
    )

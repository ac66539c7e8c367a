"""Smallest and largest values of many ranges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from beam_fraud.features.velocity.batch.sorted_rows import Places
from beam_fraud.features.velocity.fixed_point import Units


def range_minima(values: Units, first: Places, behind: Places) -> Units:
    """The smallest value of each range `[first, behind)`.

    A sparse table (Bender and Farach-Colton, 2000), of which only one row is held at a time: two
    overlapping ranges whose length is a power of two cover any range.

    Args:
      values: int64[n].
      first: int64[m].
      behind: int64[m], at least `first`.

    Returns:
      int64[m]; 0 where the range is empty.

    Example:
      >>> range_minima(np.array([3, 1, 2]), np.array([0, 2, 1]), np.array([3, 3, 1])).tolist()
      [1, 2, 0]
    """
    return _extremes(np.minimum, values, first, behind)


def range_maxima(values: Units, first: Places, behind: Places) -> Units:
    """The largest value of each range, as `range_minima` tells the smallest."""
    return _extremes(np.maximum, values, first, behind)


def _extremes(better: np.ufunc, values: Units, first: Places, behind: Places) -> Units:
    result = np.zeros(len(first), dtype=np.int64)
    lengths = behind - first
    # The exponent of float64 is exact for lengths below 2**53; -1 marks empty ranges.
    levels = (np.frexp(lengths)[1] - 1).astype(np.int8)
    ranges = np.argsort(levels, kind="stable")
    bounds = np.searchsorted(levels[ranges], np.arange(int(levels.max(initial=-1)) + 2))
    table: npt.NDArray[np.int64] = values
    for level in range(len(bounds) - 1):
        here, width = ranges[bounds[level] : bounds[level + 1]], 1 << level
        if level:
            half = width >> 1
            table = better(table[:-half], table[half:])
        result[here] = better(table[first[here]], table[behind[here] - width])
    return result

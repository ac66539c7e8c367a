"""Aggregates of many windows: covering counts, extremes, known frauds, distinct merchants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.features.velocity.batch.late_rows import earliest_arrivals, expand
from beam_fraud.features.velocity.batch.sorted_rows import Places, SortedRows
from beam_fraud.features.velocity.fixed_point import Units
from beam_fraud.features.velocity.key_rows import Times


def covering(begin: Places, behind: Places, n: int) -> Places:
    """Return the number of intervals `[begin, behind)` that cover each of n rows; int64[n].

    Intervals that end before they begin are ignored.

    Example:
      >>> covering(np.array([0, 1, 2]), np.array([2, 3, 1]), 4).tolist()
      [1, 2, 1, 0]
    """
    behind = np.maximum(begin, behind)
    steps = np.bincount(begin, minlength=n + 1) - np.bincount(behind, minlength=n + 1)
    return np.cumsum(steps)[:n]


def range_minima(values: Units, first: Places, behind: Places) -> Units:
    """Return the smallest value of each range `[first, behind)`.

    A sparse table (Bender and Farach-Colton, 2000) with one row in memory at a time: two
    overlapping ranges of a power of two cover any range.

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
    """Return the largest value of each range; otherwise as `range_minima`."""
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


@dataclass(frozen=True)
class SliceFrauds:
    """Frauds of the keys of a slice, m of them."""

    #: int64[m], numbers of their keys in the slice.
    code: Places
    #: int64[m], event times.
    time: Times
    #: int64[m], label times, or event times.
    visible: Times
    #: int64[m], arrival from which they are known; None for always.
    arrival: Places | None


def known_frauds(rows: SortedRows, frauds: SliceFrauds, length: int, delay: int) -> Places:
    """Count the known frauds in each row's window.

    A fraud at `e` is in the windows of the rows at `[e + delay, e + delay + length)`: a range, so
    the few frauds are searched among the rows, not the reverse.

    Args:
      rows: n rows.
      frauds: frauds of their keys.
      length: length of the windows, microseconds.
      delay: time between the windows' end and now, microseconds.

    Returns:
      int64[n].
    """
    entering = np.maximum(frauds.time + delay, frauds.visible)
    begin = rows.places_of(frauds.code, entering)
    behind = rows.places_of(frauds.code, frauds.time + (delay + length))
    counts = covering(begin, behind, len(rows))
    if rows.arrival is not None and frauds.arrival is not None and len(frauds.code):
        # Subtract frauds that rows before their arrival did not know.
        inside = np.flatnonzero(begin < behind)
        earliest = earliest_arrivals(rows)[begin[inside]]
        early = inside[earliest < frauds.arrival[inside]]
        for part, row, fraud in expand(begin[early], behind[early]):
            unknown = rows.arrival[row] < frauds.arrival[early[part]][fraud]
            counts -= np.bincount(row[unknown], minlength=len(rows))
    return counts


def previous_of_merchant(rows: SortedRows) -> tuple[Places, Places]:
    """Return the rows with a merchant, and the previous row of the same merchant.

    Returns:
      int64[m], ascending, and int64[m], -1 at the key's first row of a merchant.
    """
    assert rows.merchant is not None
    with_merchant = np.flatnonzero(rows.merchant)
    codes = np.asarray(pc.dictionary_encode(pa.array(rows.merchant[with_merchant])).indices)
    pairs = (rows.code[with_merchant] << 32) | codes
    grouped = np.argsort(pairs, kind="stable")
    same = np.flatnonzero(pairs[grouped[1:]] == pairs[grouped[:-1]])
    previous = np.full(len(pairs), -1, dtype=np.int64)
    previous[grouped[same + 1]] = with_merchant[grouped[same]]
    return with_merchant, previous


def distinct_merchants(
    rows: SortedRows, merchants: tuple[Places, Places], first: Places, behind: Places
) -> Places:
    """Count the distinct non-null merchants of each row's window.

    A row represents its merchant in the windows that contain it, but not the previous row of that
    merchant. Windows only move forward, so these windows belong to consecutive rows: from the first
    whose window ends after it and starts after its predecessor, to the last whose window contains
    it.

    Args:
      rows: n rows.
      merchants: result of `previous_of_merchant`.
      first: int64[n], ascending: first row of each row's window.
      behind: int64[n], ascending: the row after each row's window.

    Returns:
      int64[n].
    """
    n = len(rows)
    standing, previous = merchants
    # Number of windows that start, or end, at or before a row.
    starts_beyond = np.cumsum(np.bincount(first, minlength=n + 1))
    ends_beyond = np.cumsum(np.bincount(behind, minlength=n + 1))
    begin = np.maximum(ends_beyond[standing], np.where(previous < 0, 0, starts_beyond[previous]))
    return covering(begin, starts_beyond[standing], n)

"""Overtaken rows, which on arrival see other rows than those before them in time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from beam_fraud.features.velocity.batch.sorted_rows import Places, SortedRows, Whole, prefix_sums
from beam_fraud.features.velocity.fixed_point import squares
from beam_fraud.features.velocity.key_rows import Mask
from beam_fraud.features.velocity.large_sums import TOPS, prefix_tops
from beam_fraud.features.velocity.window_totals import NEVER, WindowTotals
from beam_fraud.schema.velocity import Velocity

#: Rows of windows processed together, unless one window alone has more.
_EXPANDED_ROWS = 1 << 20


def overtaken_rows(rows: SortedRows) -> Places:
    """Return the rows with a later-arrived row before them within their horizon.

    All others see exactly the rows before them in time.

    Returns:
      int64, ascending.
    """
    arrival = _arrival_by_key(rows)
    if (arrival[1:] >= arrival[:-1]).all():
        return np.zeros(0, dtype=np.int64)
    latest = np.maximum.accumulate(arrival)
    late = np.flatnonzero(arrival > np.minimum.accumulate(arrival[::-1])[::-1])
    behind = rows.places_of(rows.code[late], rows.time[late] + rows.horizon)
    steps = np.zeros(len(rows) + 1, dtype=np.int64)
    np.add.at(steps, late, 1)
    np.subtract.at(steps, behind, 1)
    return np.flatnonzero((np.cumsum(steps[:-1]) > 0) & (latest > arrival))


def earliest_arrivals(rows: SortedRows) -> Places:
    """Return int64[n]: earliest arrival among each row and later rows of its key."""
    arrival = _arrival_by_key(rows)
    earliest: Places = np.minimum.accumulate(arrival[::-1])[::-1]
    assert rows.arrival is not None
    return earliest - (arrival - rows.arrival)


def _arrival_by_key(rows: SortedRows) -> Places:
    """Return int64[n]: ranks by key, then by arrival."""
    assert rows.arrival is not None
    span = int(rows.arrival.max(initial=0)) + 1
    return rows.code * span + rows.arrival


def totals_on_arrival(
    rows: SortedRows, asking: Places, spec: Velocity, length: int
) -> WindowTotals:
    """Return the totals on arrival of some rows' windows, from every row in them.

    Args:
      rows: n rows with their arrivals.
      asking: int64[m], the requested rows.
      spec: the definition.
      length: length of the windows, microseconds.

    Returns:
      Totals of m windows; without `frauds`.
    """
    delay = spec.delay_microseconds
    first, behind = rows.after(delay + length)[asking], rows.after(delay)[asking]
    count = np.zeros(len(asking), dtype=np.int64)
    amount, least, most, merchants = (np.zeros_like(count) for _ in range(4))
    high, low = (np.zeros(len(asking), dtype=np.uint64) for _ in range(2))
    tops = None if rows.tops is None else np.zeros((len(TOPS), len(asking)), dtype=np.int64)
    for part, row, window in expand(first, behind):
        assert rows.arrival is not None
        seen = rows.arrival[row] <= rows.arrival[asking[part]][window]
        row, window = row[seen], window[seen]
        count[part] = np.bincount(window, minlength=len(count[part]))
        bounds = prefix_sums(count[part])
        amounts = rows.amount[row]
        if spec.needs_sums:
            amount[part] = _sums(amounts, bounds)
            if tops is not None:
                sums = prefix_tops(amounts)
                tops[:, part] = sums[:, bounds[1:]] - sums[:, bounds[:-1]]
        if spec.needs_squares:
            high[part], low[part] = (_sums(limb, bounds) for limb in squares(amounts))
        if spec.needs_extremes:
            filled = np.flatnonzero(count[part])
            least[part][filled] = np.minimum.reduceat(amounts, bounds[filled])
            most[part][filled] = np.maximum.reduceat(amounts, bounds[filled])
        if spec.needs_merchants:
            merchants[part] = _distinct(rows, row, window, len(count[part]))
    if not spec.needs_sums:
        tops = None
    return WindowTotals(count, amount, high, low, least, most, merchants, tops=tops)


def last_on_arrival(rows: SortedRows, asking: Places, horizon: int) -> Places:
    """Return the time of the latest row that some rows saw on arrival; int64[m], NEVER if none."""
    first, behind = rows.after(horizon)[asking], rows.after(0)[asking]
    last = np.full(len(asking), NEVER)
    for part, row, window in expand(first, behind):
        assert rows.arrival is not None
        seen = rows.arrival[row] < rows.arrival[asking[part]][window]
        # Rows of a window are in time order: the last one written stays.
        last[part][window[seen]] = rows.time[row[seen]]
    return last


def expand(first: Places, behind: Places) -> Iterator[tuple[slice, Places, Places]]:
    """Yield the rows of ranges, some ranges at a time.

    Args:
      first: int64[m], first row of each range.
      behind: int64[m], the row after each range.

    Yields:
      A slice of the ranges; their rows, int64; the number of each row's range in the slice, int64.
    """
    lengths = np.maximum(behind - first, 0)
    done = np.cumsum(lengths)
    begin = 0
    while begin < len(first):
        before = int(done[begin - 1]) if begin else 0
        end = int(np.searchsorted(done, before + _EXPANDED_ROWS, side="right"))
        part = slice(begin, max(end, begin + 1))
        window = np.repeat(np.arange(len(lengths[part])), lengths[part])
        offset = first[part] - (done[part] - lengths[part] - before)
        yield part, np.arange(len(window)) + offset[window], window
        begin = part.stop


def _sums(values: npt.NDArray[Whole], bounds: Places) -> npt.NDArray[Whole]:
    sums = prefix_sums(values)
    return sums[bounds[1:]] - sums[bounds[:-1]]


def _distinct(rows: SortedRows, row: Places, window: Places, windows: int) -> Places:
    assert rows.merchant is not None
    merchant = rows.merchant[row]
    order = np.lexsort((merchant, window))
    merchant, window = merchant[order], window[order]
    new: Mask = np.ones(len(order), dtype=bool)
    new[1:] = (merchant[1:] != merchant[:-1]) | (window[1:] != window[:-1])
    return np.bincount(window[new & (merchant != 0)], minlength=windows)

"""Rows of one key, put in order and cut into slices that bound the memory of what follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.features.hashing import Hashes
from beam_fraud.features.velocity.batch.sorted_rows import Places, SortedRows
from beam_fraud.features.velocity.key_rows import KeyRows, Times

#: Rows of a slice at most, the context of a cut key not counted.
SLICE_ROWS = 1 << 18
#: How long the line of a slice's times may be: int64 holds twice that.
_LINE = 2.0**62


@dataclass(frozen=True)
class KeyOrder:
    """The order of n rows by key, then time, then position."""

    #: int64[n], position of the rows in that order.
    order: Places
    #: uint64[k], the keys, in that order.
    keys: Hashes
    #: int64[k + 1], where each key starts in `order`, and n.
    starts: Places

    def codes_of(self, keys: Hashes) -> Places:
        """int64[m]: numbers of these keys (uint64[m]), -1 for one that no row has."""
        codes = pc.index_in(pa.array(keys), value_set=pa.array(self.keys))
        return np.asarray(codes.fill_null(-1).cast(pa.int64()))


@dataclass(frozen=True)
class KeySlice:
    """Rows of whole keys, or a part of one key."""

    #: Number of the first key.
    first: int
    #: Number behind the last key.
    behind: int
    #: int64, positions of the rows whose features are asked for.
    places: Places
    #: The rows, preceded by those that they see.
    rows: SortedRows


def key_order(rows: KeyRows) -> KeyOrder:
    """Put rows in order by key, time and position: by integers alone, key after time."""
    encoded = pc.dictionary_encode(pa.array(rows.key))
    codes = np.asarray(encoded.indices)
    by_time = None
    if (rows.time[1:] < rows.time[:-1]).any():
        by_time = np.argsort(rows.time, kind="stable")
        codes = codes[by_time]
    order = _stable_order(codes)
    counts = np.bincount(codes, minlength=len(encoded.dictionary))
    return KeyOrder(
        order if by_time is None else by_time[order],
        np.asarray(encoded.dictionary),
        np.concatenate(([0], np.cumsum(counts))),
    )


def _stable_order(codes: npt.NDArray[np.int32]) -> Places:
    # NumPy sorts 16 bits by radix, ten times as fast as 32.
    order = np.argsort(codes.astype(np.uint16), kind="stable")
    if len(codes) and codes.max() >> 16:
        order = order[np.argsort((codes >> 16).astype(np.uint16)[order], kind="stable")]
    return order


def key_slices(
    rows: KeyRows, ordered: KeyOrder, horizon: int, arrival: Places | None, slice_rows: int
) -> Iterator[KeySlice]:
    """Cut rows between keys, and within a key only if it alone is too large.

    Args:
      rows: n rows.
      ordered: their order.
      horizon: how far back anything looks, microseconds.
      arrival: int64[n], the order in which rows arrived; None if data are complete.
      slice_rows: rows of a slice at most, the context of a cut key not counted.

    Yields:
      Slices in which every row is asked for once.
    """
    starts = ordered.starts
    for first, behind in _key_ranges(rows.time, ordered, horizon, slice_rows):
        begin, end = int(starts[first]), int(starts[behind])
        alone = behind - first == 1
        step = slice_rows if alone else end - begin
        for low in range(begin, end, step):
            high, context = min(low + step, end), low
            if low > begin:
                oldest = rows.time[ordered.order[low]] - horizon
                times = rows.time[ordered.order[begin:low]]
                context = begin + int(np.searchsorted(times, oldest, side="right"))
            places = ordered.order[context:high]
            bounds = np.clip(starts[first : behind + 1], context, high)
            lengths = bounds[1:] - bounds[:-1]
            sorted_rows = SortedRows(
                np.repeat(np.arange(behind - first), lengths),
                rows.time[places],
                rows.amount[places],
                None if rows.merchant is None else rows.merchant[places],
                None if arrival is None else arrival[places],
                horizon,
                low - context,
            )
            yield KeySlice(first, behind, places[low - context :], sorted_rows)


def _key_ranges(
    time: Times, ordered: KeyOrder, horizon: int, slice_rows: int
) -> Iterator[tuple[int, int]]:
    """Numbers of the first and behind the last key of each range that is small enough."""
    starts, order = ordered.starts, ordered.order
    if not len(order):
        return
    extents = time[order[starts[1:] - 1]] - time[order[starts[:-1]]] + float(horizon) + 1
    loads = np.cumsum(np.maximum(np.diff(starts) / slice_rows, extents / _LINE))
    first, done = 0, 0.0
    while first < len(loads):
        behind = max(int(np.searchsorted(loads, done + 1, side="right")), first + 1)
        yield first, behind
        first, done = behind, float(loads[behind - 1])

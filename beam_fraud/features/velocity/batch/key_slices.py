"""Sort rows by key, and cut them into slices of bounded memory."""

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

#: Maximum of rows per slice, without the context of a divided key.
SLICE_ROWS = 1 << 18
#: Maximum length of a slice's line of times: half of int64.
_LINE = 2.0**62


@dataclass(frozen=True)
class KeyOrder:
    """The order of n rows by key, then time, then position."""

    #: int64[n], positions of the rows in that order.
    order: Places
    #: uint64[k], the keys in that order.
    keys: Hashes
    #: int64[k + 1], start of each key in `order`, and n.
    starts: Places

    def codes_of(self, keys: Hashes) -> Places:
        """Return int64[m]: numbers of these keys (uint64[m]), -1 for unknown ones."""
        codes = pc.index_in(pa.array(keys), value_set=pa.array(self.keys))
        return np.asarray(codes.fill_null(-1).cast(pa.int64()))


@dataclass(frozen=True)
class KeySlice:
    """Rows of whole keys, or a part of one key."""

    #: Number of the first key.
    first: int
    #: Number after the last key.
    behind: int
    #: int64, positions of the requested rows.
    places: Places
    #: The rows, preceded by the earlier rows in their windows.
    rows: SortedRows


def key_order(rows: KeyRows) -> KeyOrder:
    """Sort rows by key, time and position, by integers alone, key after time."""
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
    # NumPy uses a radix sort for 16 bits, ten times as fast as for 32.
    order = np.argsort(codes.astype(np.uint16), kind="stable")
    if len(codes) and codes.max() >> 16:
        order = order[np.argsort((codes >> 16).astype(np.uint16)[order], kind="stable")]
    return order


def key_slices(
    rows: KeyRows, ordered: KeyOrder, horizon: int, arrival: Places | None, slice_rows: int
) -> Iterator[KeySlice]:
    """Cut rows between keys; divide a key only if it alone is too large.

    Args:
      rows: n rows.
      ordered: order of the rows.
      horizon: longest look-back, microseconds.
      arrival: int64[n], order of arrival; None for complete data.
      slice_rows: maximum of rows per slice, without the context of a divided key.

    Yields:
      Slices that request every row once.
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
    """Yield the numbers of the first key and after the last key of each small range."""
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

"""Compute the velocity features of a complete set of transactions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.features.velocity.batch.key_slices import (
    SLICE_ROWS,
    KeyOrder,
    KeySlice,
    key_order,
    key_slices,
)
from beam_fraud.features.velocity.batch.late_rows import (
    last_on_arrival,
    overtaken_rows,
    totals_on_arrival,
)
from beam_fraud.features.velocity.batch.sorted_rows import Places, SortedRows
from beam_fraud.features.velocity.batch.window_aggregates import (
    SliceFrauds,
    distinct_merchants,
    known_frauds,
    previous_of_merchant,
    range_maxima,
    range_minima,
)
from beam_fraud.features.velocity.key_rows import Frauds, KeyRows
from beam_fraud.features.velocity.window_totals import (
    NEVER,
    Feature,
    WindowTotals,
    derive,
    refuse_too_many,
    seconds_since,
)
from beam_fraud.schema.velocity import Velocity, by_grouping


def batch_features(
    rows: KeyRows,
    frauds: Frauds | None,
    specs: Sequence[Velocity],
    arrival: Places | None = None,
    *,
    slice_rows: int = SLICE_ROWS,
) -> dict[str, Feature]:
    """Return the velocity features of every row.

    Args:
      rows: n rows of one key, with merchants if a feature counts them.
      frauds: known frauds of the keys, or None.
      specs: definitions that share the key.
      arrival: int64[n], distinct numbers in order of arrival: each row then sees only rows that
        arrived before it, as in a stream. None for complete data: a row sees earlier rows in time,
        on ties those before it in `rows`; frauds are known as soon as they are `visible`, whatever
        their `row`.
      slice_rows: rows processed together; it does not change the results.

    Returns:
      The features' names, in the order of the definitions, to float64[n] in the order of `rows`.

    Raises:
      FraudError: a window holds more rows than sums are exact for.

    Example:
      >>> rows = KeyRows(np.ones(2, np.uint64), np.array([0, 60_000_000]), np.array([10000, 30000]))
      >>> features = batch_features(rows, None, [Velocity(("account_id",), ("1h",), ("mean",))])
      >>> features["account_mean_1h"].tolist()
      [1.0, 2.0]
    """
    by_key, by_currency = by_grouping(specs)
    if by_key and by_currency and _grouped_alike(rows):
        # The windows are the same.
        by_key, by_currency = tuple(specs), ()
    features = dict[str, Feature]()
    if by_key:
        features |= _features(rows, frauds, by_key, arrival, slice_rows)
    if by_currency:
        features |= _features(rows.by_currency(), None, by_currency, arrival, slice_rows)
    return {name: features[name] for spec in specs for name in spec.names}


def _grouped_alike(rows: KeyRows) -> bool:
    """Return whether every key has one currency."""
    assert rows.of_currency is not None
    return len(pc.unique(pa.array(rows.key))) == len(pc.unique(pa.array(rows.of_currency)))


def _features(
    rows: KeyRows,
    frauds: Frauds | None,
    specs: Sequence[Velocity],
    arrival: Places | None,
    slice_rows: int,
) -> dict[str, Feature]:
    """Return the features whose windows hold all rows of a key."""
    features = {name: np.empty(len(rows)) for spec in specs for name in spec.names}
    if arrival is not None and (arrival[1:] < arrival[:-1]).any():
        arrived = np.argsort(arrival)
        inverse = np.empty_like(arrived)
        inverse[arrived] = np.arange(len(arrived))
        rows = rows.take(arrived)
        if frauds is not None and frauds.row is not None:
            frauds = replace(frauds, row=inverse[frauds.row])
    else:
        arrived = None
    streamed = None if arrival is None else np.arange(len(rows))
    ordered = key_order(rows)
    of_keys = None if frauds is None else _by_key(frauds, ordered)
    horizon = max((spec.horizon for spec in specs), default=0)
    for part in key_slices(rows, ordered, horizon, streamed, slice_rows):
        places = part.places if arrived is None else arrived[part.places]
        for name, feature in _slice_features(part, of_keys, specs):
            features[name][places] = feature
    return features


def _by_key(frauds: Frauds, ordered: KeyOrder) -> SliceFrauds:
    """Return frauds with the numbers of their keys, without keys that no row has."""
    codes = ordered.codes_of(frauds.key)
    by_key = np.argsort(codes, kind="stable")
    by_key = by_key[np.searchsorted(codes[by_key], 0) :]
    frauds = frauds.take(by_key)
    return SliceFrauds(codes[by_key], frauds.time, frauds.visible, frauds.row)


def _slice_features(
    part: KeySlice, frauds: SliceFrauds | None, specs: Sequence[Velocity]
) -> Iterator[tuple[str, Feature]]:
    rows = part.rows
    amount = rows.amount[rows.requested]
    overtaken = np.zeros(0, dtype=np.int64) if rows.arrival is None else overtaken_rows(rows)
    overtaken = overtaken[overtaken >= rows.start]
    of_slice = None if frauds is None else _of_slice(frauds, part)
    needed = any(spec.needs_merchants for spec in specs)
    merchants = previous_of_merchant(rows) if needed else None
    for spec in specs:
        for window, length in zip(spec.windows, spec.window_microseconds, strict=True):
            totals = _totals(rows, merchants, of_slice, spec, length)
            if len(overtaken):
                _correct(totals, totals_on_arrival(rows, overtaken, spec, length), rows, overtaken)
            refuse_too_many(totals, spec, window)
            for aggregate in spec.aggregates:
                if aggregate != "seconds_since_last":
                    yield spec.name(aggregate, window), derive(aggregate, totals, amount)
        if spec.needs_last:
            last = _last(rows, spec.horizon)
            if len(overtaken):
                last[overtaken] = last_on_arrival(rows, overtaken, spec.horizon)
            name = spec.name("seconds_since_last", spec.windows[0])
            yield name, seconds_since(rows.time[rows.requested], last[rows.requested])


def _of_slice(frauds: SliceFrauds, part: KeySlice) -> SliceFrauds:
    among = slice(*np.searchsorted(frauds.code, (part.first, part.behind)))
    arrival = None if frauds.arrival is None else frauds.arrival[among]
    code = frauds.code[among] - part.first
    return SliceFrauds(code, frauds.time[among], frauds.visible[among], arrival)


def _totals(
    rows: SortedRows,
    merchants: tuple[Places, Places] | None,
    frauds: SliceFrauds | None,
    spec: Velocity,
    length: int,
) -> WindowTotals:
    """Return the totals of complete windows of the requested rows."""
    delay, requested = spec.delay_microseconds, rows.requested
    all_first, all_behind = rows.after(delay + length), rows.window_ends(delay)
    first, behind = all_first[requested], all_behind[requested]
    sums = least = most = high = low = distinct = known = tops = None
    if spec.needs_sums:
        sums = rows.sums[behind] - rows.sums[first]
        tops = None if rows.tops is None else rows.tops[:, behind] - rows.tops[:, first]
    if spec.needs_squares:
        high, low = (limb[behind] - limb[first] for limb in rows.square_sums)
    if spec.needs_extremes:
        least = range_minima(rows.amount, first, behind)
        most = range_maxima(rows.amount, first, behind)
    if spec.needs_merchants:
        assert merchants is not None
        distinct = distinct_merchants(rows, merchants, all_first, all_behind)[requested]
    if spec.needs_labels:
        known = np.zeros(len(first), dtype=np.int64)
        if frauds is not None:
            known = known_frauds(rows, frauds, length, delay)[requested]
    return WindowTotals(behind - first, sums, high, low, least, most, distinct, known, tops)


def _correct(
    totals: WindowTotals, corrected: WindowTotals, rows: SortedRows, overtaken: Places
) -> None:
    """Replace the totals of overtaken rows; fraud counts already respect arrivals."""
    for name, values in vars(totals).items():
        if values is not None and name != "frauds":
            values[..., overtaken - rows.start] = getattr(corrected, name)


def _last(rows: SortedRows, horizon: int) -> Places:
    """Return the time of the key's previous row within the horizon; NEVER without one."""
    last = np.full(len(rows), NEVER)
    before = np.flatnonzero(rows.after(horizon) < np.arange(len(rows)))
    last[before] = rows.time[before - 1]
    return last

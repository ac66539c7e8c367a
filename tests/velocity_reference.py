"""Velocity features row by row, slow and obvious, and rows for property tests."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from beam_fraud.features.velocity.key_rows import Frauds, KeyRows
from beam_fraud.schema.velocity import Velocity

HOUR = 3_600_000_000
DAY = 24 * HOUR

#: Every aggregate, with and without delay.
SPECS = (
    Velocity(
        ("account_id",),
        ("1h", "1d", "7d"),
        (
            *("count", "sum", "mean", "max", "min", "std", "ratio"),
            *("seconds_since_last", "distinct_merchant"),
        ),
    ),
    Velocity(
        ("account_id",),
        ("1d", "3h"),
        ("risk", "count", "sum", "mean", "max", "min", "std", "ratio", "distinct_merchant"),
        delay="2h",
    ),
)
#: The same, with amounts by currency.
SPECS_BY_CURRENCY = tuple(replace(spec, by_currency=True) for spec in SPECS)


def reference(
    rows: KeyRows,
    frauds: Frauds | None,
    specs: Sequence[Velocity],
    arrival: Sequence[int] | None = None,
) -> dict[str, list[float]]:
    """Return the features of every row, by the definition.

    Args:
      rows: n rows.
      frauds: what is known of them.
      specs: definitions that share a key.
      arrival: n different numbers, the order in which rows arrived; None: rows are complete and
        come in the order of their times, ties by position.
    """
    features: dict[str, list[float]] = {}
    for spec in specs:
        for name in spec.names:
            assert name not in features, "two definitions of one name"
            features[name] = []
        delay = spec.delay_microseconds
        for i in range(len(rows)):
            for window, length in zip(spec.windows, spec.window_microseconds, strict=True):
                end = int(rows.time[i]) - delay
                seen = _seen(rows, i, end - length, end, arrival)
                for aggregate in spec.aggregates:
                    if aggregate == "risk":
                        known = _known_frauds(rows, frauds, i, end - length, end, arrival)
                        value = known / len(seen) if seen else 0.0
                    elif aggregate != "seconds_since_last":
                        among = seen
                        if spec.name(aggregate, window) in spec.amounts_by_currency:
                            assert rows.of_currency is not None
                            own = rows.of_currency[i]
                            among = [j for j in seen if rows.of_currency[j] == own]
                        value = _value(rows, i, among, aggregate)
                    elif window == spec.windows[0]:
                        value = _since_last(rows, i, spec.horizon, arrival)
                    else:
                        continue
                    features[spec.name(aggregate, window)].append(value)
    return features


def _before(rows: KeyRows, j: int, i: int, arrival: Sequence[int] | None) -> bool:
    """Return whether row j arrived before row i, or precedes it in a complete order."""
    if arrival is not None:
        return arrival[j] < arrival[i]
    return (int(rows.time[j]), j) < (int(rows.time[i]), i)


def _seen(rows: KeyRows, i: int, begin: int, end: int, arrival: Sequence[int] | None) -> list[int]:
    """Return the rows in the window (begin, end] of row i."""
    return [
        j
        for j in range(len(rows))
        if rows.key[j] == rows.key[i]
        and begin < rows.time[j] <= end
        # Before now everything counts that has arrived; in complete data all has.
        and (j == i or (end < rows.time[i] and arrival is None) or _before(rows, j, i, arrival))
    ]


def _since_last(rows: KeyRows, i: int, horizon: int, arrival: Sequence[int] | None) -> float:
    now = int(rows.time[i])
    times = [int(rows.time[j]) for j in _seen(rows, i, now - horizon, now, arrival) if j != i]
    return (now - max(times)) / 1e6 if times else math.nan


def _value(rows: KeyRows, i: int, seen: list[int], aggregate: str) -> float:
    """Return an aggregate of the rows in row i's window."""
    amounts = [int(rows.amount[j]) for j in seen]
    n, total = len(amounts), sum(amounts)
    nan = math.nan
    match aggregate:
        case "count":
            return float(n)
        case "sum":
            return float(total) / 1e4
        case "mean":
            return float(total) / (n * 1e4) if n else nan
        case "max":
            return max(amounts) / 1e4 if n else nan
        case "min":
            return min(amounts) / 1e4 if n else nan
        case "ratio":
            return float(int(rows.amount[i])) * n / float(total) if total else nan
        case "std":
            spread = n * sum(amount * amount for amount in amounts) - total * total
            rounded = float(spread >> 64) * 2.0**64 + float(spread % 2**64)
            return math.sqrt(rounded / float(n * (n - 1))) / 1e4 if n > 1 else nan
        case "distinct_merchant":
            assert rows.merchant is not None
            return float(len({int(rows.merchant[j]) for j in seen} - {0}))
    raise AssertionError(aggregate)


def _known_frauds(
    rows: KeyRows,
    frauds: Frauds | None,
    i: int,
    begin: int,
    end: int,
    arrival: Sequence[int] | None,
) -> int:
    if frauds is None:
        return 0
    return sum(
        1
        for f in range(len(frauds))
        if frauds.key[f] == rows.key[i]
        and begin < frauds.time[f] <= end
        and frauds.visible[f] <= rows.time[i]
        and (arrival is None or frauds.row is None or arrival[frauds.row[f]] <= arrival[i])
    )


@st.composite
def keyed_rows(draw: st.DrawFn, max_size: int = 40) -> tuple[KeyRows, Frauds]:
    """Return rows of few keys, with ties, gaps, refunds and huge amounts, in any order of time.

    The frauds are some of the rows, each known with its row, some of them labelled later.
    """
    n = draw(st.integers(0, max_size))

    def column(values: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(values, min_size=n, max_size=n))

    # Steps on the windows' own grid make rows fall on their bounds.
    grid = [0, 0, 1, HOUR - 1, HOUR, HOUR + 1, 2 * HOUR, 5 * HOUR, DAY, DAY + 1, 8 * DAY]
    steps = column(st.sampled_from(grid))
    if draw(st.booleans()):
        late = [DAY, 2 * HOUR, 10 * DAY]
        steps = [s - (draw(st.sampled_from(late)) if draw(st.booleans()) else 0) for s in steps]
    time = np.cumsum(np.array(steps, dtype=np.int64)) + 17 * DAY
    huge = 10**14 - 1
    amounts = st.one_of(st.integers(-30_000, 30_000), st.sampled_from([huge, huge - 1, -huge, 0]))
    key = np.array(column(st.sampled_from([1, 2, 2**64 - 1])), dtype=np.uint64)
    merchant = np.array(column(st.integers(0, 3)), dtype=np.uint64)
    rows = KeyRows(key, time, np.array(column(amounts), dtype=np.int64), merchant)
    fraud = np.array(column(st.integers(0, 2)), dtype=np.int64)
    places = np.flatnonzero(fraud == 0)
    later = np.array(column(st.sampled_from([0, 0, HOUR, 3 * HOUR, DAY])), dtype=np.int64)
    visible = (time + later)[places]
    transaction = np.arange(n, dtype=np.uint64)[places]
    return rows, Frauds(key[places], time[places], visible, places, transaction)


@st.composite
def rows_in_currencies(draw: st.DrawFn, max_size: int = 40) -> tuple[KeyRows, Frauds]:
    """Return the rows of `keyed_rows` in a few currencies."""
    rows, frauds = draw(keyed_rows(max_size))
    currency = draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    of_currency = rows.key * np.uint64(7) + np.array(currency, dtype=np.uint64)
    return replace(rows, of_currency=of_currency), frauds

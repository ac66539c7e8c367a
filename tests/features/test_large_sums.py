"""Both engines sum exactly up to the largest valid amounts."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.errors import FraudError
from beam_fraud.features.velocity import large_sums
from beam_fraud.features.velocity.batch.batch_features import batch_features
from beam_fraud.features.velocity.fixed_point import AMOUNT_LIMIT, squares, to_units
from beam_fraud.features.velocity.key_rows import Frauds, KeyRows
from beam_fraud.features.velocity.large_sums import TOPS, Load
from beam_fraud.features.velocity.state.velocity_state import VelocityState
from beam_fraud.features.velocity.window_totals import WindowTotals, derive
from beam_fraud.schema.velocity import Velocity
from tests.velocity_reference import DAY, SPECS, keyed_rows, reference

MOST = 10**14 - 1
#: Amounts and how many there are of each, 2**32 - 1 at most.
MANY = st.lists(
    st.tuples(st.integers(-MOST, MOST) | st.just(MOST), st.integers(1, 1 << 29)),
    min_size=1,
    max_size=7,
)
SPEC = Velocity(("account_id",), ("30d",), ("count", "sum", "mean", "std", "ratio"))
NAMES = {aggregate: SPEC.name(aggregate, "30d") for aggregate in SPEC.aggregates}


def wrapped(total: int, dtype: type[np.integer]) -> np.ndarray:
    return np.array([total % (1 << 64)], dtype=np.uint64).view(dtype)


def totals_of(amounts: list[tuple[int, int]]) -> WindowTotals:
    """Return an engine's sum of many equal rows."""
    sums, tops = [0, 0, 0], [0, 0, 0]
    for amount, times in amounts:
        high, low = (int(limb[0]) for limb in squares(np.array([amount])))
        for place, term in enumerate((amount, high, low)):
            sums[place] += term * times
            tops[place] += (term >> TOPS[place]) * times
    return WindowTotals(
        np.array([sum(times for _, times in amounts)]),
        wrapped(sums[0], np.int64),
        wrapped(sums[1], np.uint64),
        wrapped(sums[2], np.uint64),
        tops=np.array(tops)[:, None],
    )


@settings(deadline=None)
@given(MANY)
def test_features_of_thousands_of_millions_of_rows_are_exact_but_for_roundings(
    amounts: list[tuple[int, int]],
) -> None:
    totals, one = totals_of(amounts), np.array([12_345])
    n = sum(times for _, times in amounts)
    total = sum(amount * times for amount, times in amounts)
    spread = n * sum(amount**2 * times for amount, times in amounts) - total**2
    assert derive("sum", totals, one)[0] == float(total) / 10_000
    assert derive("mean", totals, one)[0] == pytest.approx(
        float(Fraction(total, n * 10_000)), 1e-15
    )
    if total:
        ratio = derive("ratio", totals, one)[0]
        assert ratio == pytest.approx(float(Fraction(12_345 * n, total)), rel=1e-15)
    variance = Fraction(spread, n * (n - 1)) if n > 1 else math.nan
    expected = math.sqrt(variance) / 10_000
    assert derive("std", totals, one)[0] == pytest.approx(expected, rel=1e-15, nan_ok=True)


@settings(deadline=None, max_examples=30)
@given(keyed_rows())
def test_ordinary_amounts_get_the_same_bits_by_way_of_large_sums(
    drawn: tuple[KeyRows, Frauds],
) -> None:
    rows, frauds = drawn
    expected = reference(rows, frauds, SPECS, range(len(rows)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Load, "fits", False)
        result = VelocityState(SPECS, lateness=500 * DAY).update(rows, frauds)
        arrived = batch_features(rows, frauds, SPECS, np.arange(len(rows)))
    for name, values in expected.items():
        np.testing.assert_array_equal(result[name], np.array(values, dtype=float), err_msg=name)
        np.testing.assert_array_equal(arrived[name], result[name], err_msg=name)


@pytest.mark.parametrize(("rows", "late"), [(2_100, False), (2_100, True), (93_200, False)])
def test_sums_and_deviations_of_many_largest_amounts_are_correct(rows: int, late: bool) -> None:
    """An overflow made sums negative and the deviation 1,800 million times too large."""
    amounts = np.where(np.arange(rows) % 2, 9.9e9 + 500, 9.9e9 - 500)
    units = to_units(amounts)
    time = np.arange(rows) * 1_000
    if late:
        time[::97] -= 5_000
    key = np.ones(rows, dtype=np.uint64)
    batches = [
        KeyRows(key[part], time[part], units[part])
        for part in (slice(start, start + 10_000) for start in range(0, rows, 10_000))
    ]
    state = VelocityState([SPEC], lateness=DAY)
    parts = []
    for number, batch in enumerate(batches):
        parts.append(state.update(batch))
        if number == 4:
            state = VelocityState([SPEC], lateness=DAY)
            for earlier in batches[: number + 1]:
                state.add(earlier)
    result = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    whole = KeyRows(key, time, units)
    expected = batch_features(whole, None, [SPEC], np.arange(rows), slice_rows=50_000)
    for name in NAMES.values():
        np.testing.assert_array_equal(result[name], expected[name], err_msg=name)
    (last,) = np.flatnonzero(result[NAMES["count"]] == rows)[-1:]
    total = sum(units.tolist())
    assert result[NAMES["sum"]][last] == float(total) / 10_000 > 0
    assert result[NAMES["mean"]][last] == pytest.approx(9.9e9, rel=1e-15)
    assert result[NAMES["std"]][last] == pytest.approx(
        500 * math.sqrt(rows / (rows - 1)), rel=1e-14
    )


def test_one_large_amount_does_not_make_all_windows_slow() -> None:
    units = to_units(np.array([AMOUNT_LIMIT - 1] + [1_000.0] * 100_000))
    assert Load.of(units).fits
    assert not Load.of(np.repeat(units[:1], 2_000)).fits


def batch(rows: KeyRows, spec: Velocity) -> None:
    batch_features(rows, None, [spec], np.arange(len(rows)))


def stream(rows: KeyRows, spec: Velocity) -> None:
    state = VelocityState([spec])
    for start in range(0, len(rows), 2):
        state.update(rows.take(slice(start, start + 2)))


@pytest.mark.parametrize("engine", [batch, stream])
@pytest.mark.parametrize("late", [False, True])
def test_more_rows_in_a_window_than_sums_are_exact_for_are_refused(
    engine: Callable[[KeyRows, Velocity], None], late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if there were thousands of millions of them.
    monkeypatch.setattr(Load, "fits", False)
    monkeypatch.setattr(large_sums, "MOST_ROWS", 7)
    time = np.arange(8) * 1_000
    if late:
        time[3] = 500
    rows = KeyRows(np.ones(8, dtype=np.uint64), time, np.arange(8) * 10_000)
    engine(rows.take(slice(0, 7)), SPEC)
    with pytest.raises(FraudError, match="account_id: more than 7 transactions in a window of 30d"):
        engine(rows, SPEC)
    # Where nothing is added up nothing is inexact.
    engine(rows, Velocity(("account_id",), ("30d",), ("count", "max")))


def test_the_largest_windows_keep_64_bits() -> None:
    for shift in TOPS:
        assert large_sums.MOST_ROWS * ((1 << shift) - 1) < 1 << 64

"""Features from whole-number totals: exact numerators, few roundings."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.features.velocity.fixed_point import squares
from beam_fraud.features.velocity.window_totals import WindowTotals, derive, deviations

UNITS = st.lists(st.integers(1 - 10**14, 10**14 - 1), min_size=1, max_size=30)


def totals(values: list[int]) -> WindowTotals:
    units = np.array(values, dtype=np.int64)
    high, low = squares(units)
    return WindowTotals(
        np.array([len(values)]),
        units.sum(keepdims=True),
        high.sum(keepdims=True),
        low.sum(keepdims=True),
    )


@given(UNITS)
def test_deviations_are_exact_except_for_the_last_rounding(values: list[int]) -> None:
    whole = totals(values)
    exact = len(values) * sum(v * v for v in values) - sum(values) ** 2
    result = deviations(whole.count, whole.amount, whole.square_high, whole.square_low)[0]
    assert result == pytest.approx(float(exact), rel=1e-15)


def test_deviations_hold_at_the_limit_of_128_bits() -> None:
    # A million amounts, half of them a hundred million, the other half minus that.
    n, size = 2**20, 10**12
    square = n * size**2
    result = deviations(
        np.array([n]),
        np.array([0]),
        np.array([square >> 40], dtype=np.uint64),
        np.array([square % 2**40], dtype=np.uint64),
    )
    assert result[0] == pytest.approx(float(n * square), rel=1e-15)


@given(UNITS, st.integers(-(10**6), 10**6))
def test_mean_and_ratio_are_within_a_few_roundings(values: list[int], amount: int) -> None:
    whole = totals(values)
    mean = Fraction(sum(values), len(values))
    units = np.array([amount])
    assert derive("mean", whole, units)[0] == pytest.approx(float(mean / 10_000), rel=1e-15)
    ratio = derive("ratio", whole, units)[0]
    assert np.isnan(ratio) if mean == 0 else ratio == pytest.approx(float(amount / mean), rel=1e-15)


def test_std_of_equal_amounts_is_zero_whatever_their_size() -> None:
    assert derive("std", totals([10**14 - 1] * 7), np.zeros(1, dtype=np.int64))[0] == 0.0


def test_std_sees_a_cent_beside_billions() -> None:
    values = [90_000_000_000_000, 90_000_000_000_100]
    expected = float(np.std([0.0, 0.01], ddof=1))
    result = derive("std", totals(values), np.zeros(1, dtype=np.int64))[0]
    assert result == pytest.approx(expected, rel=1e-15)


def test_an_unknown_aggregate_is_an_error() -> None:
    with pytest.raises(ValueError, match="median"):
        derive("median", totals([1]), np.zeros(1, dtype=np.int64))

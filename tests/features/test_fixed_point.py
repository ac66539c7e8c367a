"""Amounts as whole numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.errors import FraudError
from beam_fraud.features.velocity.fixed_point import amount_too_large, squares, to_units


@given(st.lists(st.integers(1 - 10**12, 10**12 - 1)))
def test_cents_come_out_exactly(cents: list[int]) -> None:
    amounts = np.array([c / 100 for c in cents], dtype=np.float64)
    assert to_units(amounts).tolist() == [100 * c for c in cents]


def test_halves_go_to_the_even_unit() -> None:
    halves = np.array([1, 3, -1, -3]) / 32
    assert to_units(halves).tolist() == [312, 938, -312, -938]


def test_amounts_that_are_too_large_are_refused() -> None:
    amounts = np.array([1e10, -1e10, np.nextafter(1e10, 0), -9.9e9, np.nan, np.inf])
    assert amount_too_large(amounts).tolist() == [True, True, False, False, True, True]
    with pytest.raises(FraudError, match="1e\\+10"):
        to_units(amounts[:1])


@given(st.lists(st.integers(1 - 10**14, 10**14 - 1)))
def test_squares_are_exact(units: list[int]) -> None:
    high, low = squares(np.array(units, dtype=np.int64))
    assert [h * 2**40 + w for h, w in zip(high.tolist(), low.tolist(), strict=True)] == [
        u * u for u in units
    ]
    assert (low < 2**40).all()

"""Integer totals of windows, and the features derived from them.

Every engine passes its totals to `derive`: equal totals give bit-equal features, whatever the order
or blocks of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.velocity import large_sums
from beam_fraud.features.velocity.fixed_point import LOW_BITS, UNITS, Units
from beam_fraud.features.velocity.large_sums import large_amounts, large_deviations
from beam_fraud.schema.duration import SECOND
from beam_fraud.schema.velocity import Velocity

_HALF = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFF_FFFF)

Limbs = npt.NDArray[np.uint64]
#: 128-bit numbers: high and low 64 bits of each.
Wide = tuple[Limbs, Limbs]


def deviations(
    count: npt.NDArray[np.int64], total: Units, square_high: Limbs, square_low: Limbs
) -> npt.NDArray[np.float64]:
    """Return `n * sum(x**2) - sum(x)**2`, which is `n * sum((x - mean)**2)`, in units squared.

    The integers avoid cancellation: all is exact up to the final rounding to float64, if no sum has
    wrapped around and `n * sum(x**2)` fits 128 bits; `large_sums.large_deviations` computes larger
    ones.

    Args:
      count: int64[k], number of values.
      total: int64[k], their sums.
      square_high: uint64[k], sums of the high limbs of their squares (`fixed_point.squares`).
      square_low: uint64[k], sums of the low limbs.

    Returns:
      float64[k], not negative.

    Example:
      >>> from beam_fraud.features.velocity.fixed_point import squares
      >>> values = np.array([10**13, 10**13 + 3])
      >>> high, low = squares(values)
      >>> total = values.sum(keepdims=True)
      >>> deviations(np.array([2]), total, high.sum(keepdims=True), low.sum(keepdims=True))
      array([9.])
    """
    many = count.astype(np.uint64)
    above = _shifted(_product(many, square_high))
    below = _product(many, square_low)
    size = np.abs(total).view(np.uint64)
    high, low = _difference(_sum(above, below), _product(size, size))
    return high.astype(np.float64) * 2.0**64 + low.astype(np.float64)


def _product(a: Limbs, b: Limbs) -> Wide:
    a_high, a_low, b_high, b_low = a >> _HALF, a & _LOW_HALF, b >> _HALF, b & _LOW_HALF
    bottom = a_low * b_low
    left, right = a_high * b_low, a_low * b_high
    middle = (bottom >> _HALF) + (left & _LOW_HALF) + (right & _LOW_HALF)
    top = a_high * b_high + (left >> _HALF) + (right >> _HALF) + (middle >> _HALF)
    return top, (middle << _HALF) | (bottom & _LOW_HALF)


def _shifted(value: Wide) -> Wide:
    """Return the value times 2**LOW_BITS."""
    high, low = value
    return (high << LOW_BITS) | (low >> (np.uint64(64) - LOW_BITS)), low << LOW_BITS


def _sum(a: Wide, b: Wide) -> Wide:
    low = a[1] + b[1]
    return a[0] + b[0] + (low < a[1]), low


def _difference(a: Wide, b: Wide) -> Wide:
    return a[0] - b[0] - (a[1] < b[1]), a[1] - b[1]


Integers = npt.NDArray[np.int64]
Feature = npt.NDArray[np.float64]

#: Value of `last` without a previous transaction.
NEVER = np.int64(np.iinfo(np.int64).min)


@dataclass(frozen=True)
class WindowTotals:
    """Totals of n windows, one per row; None if no feature needs them.

    Sums wrap around at 64 bits; `tops` tells the missing multiple where they may be larger.
    """

    #: Transactions in the window.
    count: Integers
    #: Sum of their amounts, units.
    amount: Units | None = None
    #: Sum of the high limbs of their squares (`fixed_point.squares`), uint64.
    square_high: Limbs | None = None
    #: Sum of the low limbs, uint64.
    square_low: Limbs | None = None
    #: Smallest amount; undefined for an empty window.
    least: Units | None = None
    #: Largest amount; undefined for an empty window.
    most: Units | None = None
    #: Different merchants.
    merchants: Integers | None = None
    #: Known frauds.
    frauds: Integers | None = None
    #: int64[3, n], sums of the upper bits (`large_sums.TOPS`); None if no sum exceeds 64 bits.
    tops: Integers | None = None


def refuse_too_many(totals: WindowTotals, spec: Velocity, window: str) -> None:
    """Check that sums of windows are exact.

    Costs nothing if no sum exceeds 64 bits: so many rows always have `tops`.

    Args:
      totals: totals of the windows.
      spec: the definition.
      window: the window of the definition.

    Raises:
      FraudError: a window sums more than `large_sums.MOST_ROWS` amounts.
    """
    most = large_sums.MOST_ROWS
    if totals.tops is not None and spec.needs_sums and totals.count.max(initial=0) > most:
        raise FraudError(
            f"velocity of {' and '.join(spec.key)}: more than {most:,} transactions in a window of "
            f"{window}, which is the limit of exact sums: give a shorter window",
            Code.VELOCITY_LIMIT,
        )


def derive(aggregate: str, totals: WindowTotals, amount: Units) -> Feature:
    """Return a feature of n windows.

    Args:
      aggregate: one of `velocity.AGGREGATES`, except `seconds_since_last`.
      totals: totals of the windows that the aggregate needs.
      amount: int64[n], units: amounts of the windows' transactions.

    Returns:
      float64[n], amounts in currency units. For an empty window count, sum, distinct_merchant and
      risk are 0, others NaN; so is `std` of one row, and `ratio` if the mean is 0.
    """
    count = totals.count
    filled = count > 0
    match aggregate:
        case "count":
            return count.astype(np.float64)
        case "sum":
            return _amounts(totals) / UNITS
        case "mean":
            return _quotient(_amounts(totals), count * UNITS, filled)
        case "ratio":
            total = _amounts(totals)
            # amount / (total / count), with one rounding less.
            return _quotient(amount.astype(np.float64) * count, total, total != 0)
        case "min":
            return _quotient(_needed(totals.least), UNITS, filled)
        case "max":
            return _quotient(_needed(totals.most), UNITS, filled)
        case "std":
            high, low = totals.square_high, totals.square_low
            assert high is not None
            assert low is not None
            amounts = _needed(totals.amount)
            spread = deviations(count, amounts, high, low)
            if totals.tops is not None:
                large = large_deviations(count, amounts, high, low, totals.tops)
                spread[list(large)] = list(large.values())
            pairs = count.astype(np.float64) * (count - 1)
            return np.sqrt(_quotient(spread, pairs, count > 1)) / UNITS
        case "distinct_merchant":
            return _needed(totals.merchants).astype(np.float64)
        case "risk":
            return _quotient(_needed(totals.frauds), count, filled, otherwise=0.0)
    raise ValueError(aggregate)


def seconds_since(time: Integers, last: Integers) -> Feature:
    """Return the seconds since the key's previous transaction.

    Args:
      time: int64[n], microseconds.
      last: int64[n], time of the previous transaction, `NEVER` without one.

    Returns:
      float64[n], NaN without a previous transaction.
    """
    known = last != NEVER
    return _quotient(time - np.where(known, last, time), SECOND, known)


def _quotient(
    above: npt.NDArray[np.int64] | Feature,
    below: npt.NDArray[np.int64] | Feature | int,
    where: npt.NDArray[np.bool_],
    otherwise: float = np.nan,
) -> Feature:
    result = np.full(len(above), otherwise)
    np.divide(above, below, out=result, where=where)
    return result


def _amounts(totals: WindowTotals) -> Feature:
    """Return the sums of the amounts, rounded once."""
    amounts = _needed(totals.amount)
    rounded = amounts.astype(np.float64)
    if totals.tops is not None:
        for place, amount in large_amounts(amounts, totals.tops).items():
            rounded[place] = float(amount)
    return rounded


def _needed(total: Integers | None) -> Integers:
    assert total is not None
    return total

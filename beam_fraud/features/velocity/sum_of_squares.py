"""Sums of squared deviations without cancellation, in whole numbers of 128 bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from beam_fraud.features.velocity.fixed_point import LOW_BITS, Units

_HALF = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFF_FFFF)

Limbs = npt.NDArray[np.uint64]
#: Numbers of 128 bits: the high and the low 64 of each.
Wide = tuple[Limbs, Limbs]


def deviations(
    count: npt.NDArray[np.int64], total: Units, square_high: Limbs, square_low: Limbs
) -> npt.NDArray[np.float64]:
    """`n * sum(x**2) - sum(x)**2`, which is `n * sum((x - mean)**2)`, in units squared.

    All is exact up to the last step, the rounding to float64, as long as no sum has wrapped around
    and `n * sum(x**2)` has at most 128 bits; what is larger, `large_sums.large_deviations` tells.

    Args:
      count: int64[k], how many values.
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
    """The value times 2**LOW_BITS."""
    high, low = value
    return (high << LOW_BITS) | (low >> (np.uint64(64) - LOW_BITS)), low << LOW_BITS


def _sum(a: Wide, b: Wide) -> Wide:
    low = a[1] + b[1]
    return a[0] + b[0] + (low < a[1]), low


def _difference(a: Wide, b: Wide) -> Wide:
    return a[0] - b[0] - (a[1] < b[1]), a[1] - b[1]

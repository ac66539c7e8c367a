"""Amounts as integers, so that sums do not depend on the order of addition."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import Code, FraudError

Units = npt.NDArray[np.int64]

#: Units per currency unit: amounts keep four decimal places.
UNITS = 10_000
#: Limit of the absolute amount in currency units.
AMOUNT_LIMIT = 1e10
#: A square is `high * 2**LOW_BITS + low`.
LOW_BITS = np.uint64(40)
_LOW = np.uint64((1 << 40) - 1)


def amount_too_large(amounts: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which amounts (float64[n], currency units) have no fixed-point form; NaN has none."""
    return ~(np.abs(amounts) < AMOUNT_LIMIT)


def to_units(amounts: npt.NDArray[np.float64]) -> Units:
    """Convert amounts to units of 1/10,000, halves rounded to even.

    Sums may exceed 63 bits from 92,000 amounts of the largest size on (`large_sums`).

    Args:
      amounts: float64[n], currency units.

    Returns:
      int64[n], each smaller than 2**47 in size.

    Raises:
      FraudError: an amount is too large.

    Example:
      >>> to_units(np.array([1.25, -0.00005, 9.99])).tolist()
      [12500, 0, 99900]
    """
    if amount_too_large(amounts).any():
        raise FraudError(
            f"amounts of {AMOUNT_LIMIT:.0e} and more cannot be added up", Code.VELOCITY_LIMIT
        )
    return np.rint(amounts * UNITS).astype(np.int64)


def unit_of(amount: float) -> int:
    """Return what `to_units` does for one amount, which is not too large."""
    return round(amount * UNITS)


def squares(units: Units) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return exact squares in two limbs, `high * 2**40 + low` with `low < 2**40`.

    Sums of the limbs may exceed 64 bits from a thousand squares of the largest size on
    (`large_sums`).

    Args:
      units: int64[n], each smaller than 2**47 in size.

    Returns:
      high and low, uint64[n] each.

    Example:
      >>> high, low = squares(np.array([-3 * 10**13]))
      >>> int(high[0]) * 2**40 + int(low[0]) == 9 * 10**26
      True
    """
    size = np.abs(units).view(np.uint64)
    left, right = size >> np.uint64(24), size & np.uint64((1 << 24) - 1)
    # size**2 = left**2 * 2**48 + 2 * left * right * 2**24 + right**2
    cross = left * right * np.uint64(2)
    low = ((cross & np.uint64(0xFFFF)) << np.uint64(24)) + right * right
    high = (left * left << np.uint64(8)) + (cross >> np.uint64(16)) + (low >> LOW_BITS)
    return high, low & _LOW

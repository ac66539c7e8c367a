"""Sums beyond 64 bits: when they can occur, and how they stay exact.

Sums of amounts and of their squares' limbs wrap around at 2**64. Where that could change features,
sums of their upper bits (`TOPS`) are kept as well: a window's top tells which multiple of 2**64 its
wrapped sum lacks, for up to `MOST_ROWS` rows. Ordinary amounts never reach that size.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from beam_fraud.features.velocity.fixed_point import LOW_BITS, Units, squares

Integers = npt.NDArray[np.int64]

#: Bits by which amounts, high limbs and low limbs of squares are shifted for their tops.
TOPS = (32, 32, 20)
#: Maximum of rows of a window with sufficient tops: the bits they drop sum up to less than 2**64.
MOST_ROWS = 1 << 32
_BITS = 64
_AMOUNTS, _SQUARES, _ROWS = 2.0**62, 2.0**102, 1 << 23


class Load(msgspec.Struct, frozen=True, gc=False):
    """Upper bounds of the sums of any window of some rows."""

    #: Number of rows.
    rows: int = 0
    #: Sum of the absolute amounts, units.
    amounts: float = 0.0
    #: Sum of their squares.
    squares: float = 0.0

    @classmethod
    def of(cls, units: Units) -> Load:
        """Return the load of amounts, int64[n]."""
        sizes = np.abs(units).astype(np.float64)
        amounts = float(sizes.sum())
        # No vector product: BLAS would wake its threads for it.
        np.square(sizes, out=sizes)
        return cls(len(units), amounts, float(sizes.sum()))

    def __add__(self, other: Load) -> Load:
        """Return the load of both sets of rows."""
        return Load(
            self.rows + other.rows, self.amounts + other.amounts, self.squares + other.squares
        )

    @property
    def fits(self) -> bool:
        """Return whether wrapped sums suffice for every window."""
        return self.rows < _ROWS and self.amounts < _AMOUNTS and self.squares < _SQUARES


def prefix_tops(units: Units) -> Integers:
    """Return prefix sums of the tops of n amounts (int64[n]) and of their squares' limbs.

    Returns:
      int64[3, n + 1], in the order of `TOPS`.
    """
    tops = np.zeros((len(TOPS), len(units) + 1), dtype=np.int64)
    for top, limb, shift in zip(tops, (units, *squares(units)), TOPS, strict=True):
        np.cumsum((limb >> limb.dtype.type(shift)).astype(np.int64), out=top[1:])
    return tops


def exact(wrapped: int, top: int, shift: int) -> int:
    """Return the sum with the lowest 64 bits of `wrapped` whose terms' tops sum up to `top`.

    Example:
      >>> terms = [2**63, 2**62, 2**63]
      >>> top = sum(term >> 32 for term in terms)
      >>> exact(sum(terms) % 2**64, top, 32) == sum(terms)
      True
    """
    known = top << shift
    return known + ((wrapped - known) & ((1 << _BITS) - 1))


def large_amounts(total: Units, tops: Integers) -> dict[int, int]:
    """Return positions and sums of windows whose amounts may exceed 64 bits.

    Args:
      total: int64[k], wrapped sums of the amounts.
      tops: int64[3, k].
    """
    places = np.flatnonzero(np.abs(tops[0]) >= 1 << (_BITS - 2 - TOPS[0]))
    return {int(i): exact(int(total[i]), int(tops[0, i]), TOPS[0]) for i in places}


def large_deviations(
    count: Integers,
    total: Units,
    square_high: npt.NDArray[np.uint64],
    square_low: npt.NDArray[np.uint64],
    tops: Integers,
) -> dict[int, float]:
    """Return positions and results of windows that are too large for `window_totals.deviations`."""
    many = (
        (count >= _ROWS)
        | (np.abs(tops[0]) >= 1 << (_BITS - 2 - TOPS[0]))
        | (tops[1] >= 1 << (_BITS - 1 - TOPS[1]))
    )
    deviations = {}
    for i in np.flatnonzero(many).tolist():
        sums = (int(total[i]), int(square_high[i]), int(square_low[i]))
        amount, high, low = (
            exact(wrapped, int(top), shift)
            for wrapped, top, shift in zip(sums, tops[:, i], TOPS, strict=True)
        )
        scaled = int(count[i]) * ((high << int(LOW_BITS)) + low)
        limbs_fit = max(high, low) < 1 << _BITS and abs(amount) < 1 << (_BITS - 1)
        if not limbs_fit or scaled >= 1 << 2 * _BITS:
            deviations[i] = float(scaled - amount * amount)
    return deviations

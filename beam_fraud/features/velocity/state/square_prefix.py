"""Prefix sums of squared amounts in a quarter of their memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beam_fraud.features.velocity.fixed_point import Units, squares

Integers = npt.NDArray[np.int64]
Limbs = npt.NDArray[np.uint64]

#: Only every so many-th prefix is kept; the squares between are computed when asked for.
_STEP = 4


@dataclass(frozen=True)
class SquarePrefix:
    """Sums of the squares of the first 0, 4, 8, .. of n amounts, both limbs."""

    #: uint64[n // 4 + 1]
    high: Limbs
    #: uint64[n // 4 + 1]
    low: Limbs

    @classmethod
    def of(cls, amounts: Units) -> SquarePrefix:
        """Sum up the squares of amounts, int64[n]."""
        nothing = np.zeros(1, dtype=np.uint64)
        high, low = (np.concatenate((nothing, limbs)) for limbs in squares(amounts))
        return cls(np.cumsum(high)[::_STEP].copy(), np.cumsum(low)[::_STEP].copy())

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.high.nbytes + self.low.nbytes

    def at(self, positions: Integers, prefix: Units) -> tuple[Limbs, Limbs]:
        """Sums of the limbs of the squares of the first so many amounts.

        Args:
          positions: int64[..], from 0 to n.
          prefix: int64[n + 1], prefix sums of the amounts themselves.

        Returns:
          high and low, uint64 of the shape of `positions`.
        """
        blocks = positions // _STEP
        high, low = self.high[blocks], self.low[blocks]
        first = blocks * _STEP
        for step in range(_STEP - 1):
            row = np.minimum(first + step, positions)
            # An amount of 0 where the position is reached.
            until = np.minimum(row + 1, positions)
            more_high, more_low = squares(prefix[until] - prefix[row])
            high += more_high
            low += more_low
        return high, low

"""Leaves with too many features for a table: their Shapley values are integrated row by row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from beam_fraud.reasons.leaf_shapley import Floats, quadrature
from beam_fraud.reasons.slots import Slot


class WideLeaves:
    """As `leaf_shapley.tabulate`, for what rows do satisfy."""

    def __init__(self, values: Floats, shares: Floats, sizes: npt.NDArray[np.int64]) -> None:
        """Take leaves as `LeafTables` does."""
        slots = np.arange(int(sizes.max(initial=0)))
        self._values = values[:, None]
        self._absent = slots >= sizes[:, None]
        # What is absent is satisfied by all rows: a factor of 1.
        self._shares = np.where(self._absent, 1.0, shares[:, slots])[:, :, None]
        self._points = list(zip(*quadrature(len(slots)), strict=True))

    def add(
        self, masks: npt.NDArray[np.unsignedinteger], slots: Sequence[Slot], to: Floats
    ) -> None:
        """Add the contributions of rows, as `LeafTables.add` does."""
        bits = masks[:, None] >> np.arange(len(slots), dtype=masks.dtype)[:, None] & 1
        satisfied = bits.astype(bool) | self._absent[:, :, None]
        integral = np.zeros(satisfied.shape)
        for point, weight in self._points:
            factors = (1 - point) * self._shares + point * satisfied
            # One after the other: numpy's product takes another order where there is one row.
            product = weight * factors[:, 0]
            for other in range(1, len(slots)):
                product *= factors[:, other]
            integral += np.divide(product[:, None], factors, out=factors)
        integral *= satisfied - self._shares
        integral *= self._values[:, None]
        for number, slot in enumerate(slots):
            to += slot.sums @ integral[: slot.leaves, number]

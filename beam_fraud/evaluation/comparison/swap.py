"""The swap set: what one of two sides flags and the other does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beam_fraud.evaluation.rows import Floats, Labels

_Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SwapCell:
    """Rows that two sides flag alike."""

    #: Rows.
    rows: int
    #: Their total amount.
    amount: float
    #: Rows with the label fraud, and their total amount; refunds count as 0.
    frauds: int
    fraud_amount: float
    #: Rows with the label genuine; the others have no label that counts.
    genuine: int

    def __add__(self, other: SwapCell) -> SwapCell:
        """Return the sums of both."""
        return SwapCell(
            self.rows + other.rows,
            self.amount + other.amount,
            self.frauds + other.frauds,
            self.fraud_amount + other.fraud_amount,
            self.genuine + other.genuine,
        )


@dataclass(frozen=True)
class SwapSet:
    """The rows that two sides flag."""

    #: Rows that both flag.
    both: SwapCell
    #: Rows that the first alone flags.
    only_first: SwapCell
    #: Rows that the second alone flags.
    only_second: SwapCell

    @property
    def share(self) -> float | None:
        """Rows that one alone flags among those that either flags; None if nothing is flagged."""
        swapped = self.only_first.rows + self.only_second.rows
        either = swapped + self.both.rows
        return swapped / either if either else None

    def __add__(self, other: SwapSet) -> SwapSet:
        """Return the sums of both."""
        return SwapSet(
            self.both + other.both,
            self.only_first + other.only_first,
            self.only_second + other.only_second,
        )


def swap_set(
    first: _Flags, second: _Flags, labels: Labels, amounts: Floats | None = None
) -> SwapSet:
    """Compare the flags of two sides.

    Args:
      first: bool[n], flags of one side.
      second: bool[n], flags of the other.
      labels: int8[n], 1 is fraud, 0 genuine, anything else unknown.
      amounts: float64[n]; None counts rows alone.
    """
    money = np.zeros(len(labels)) if amounts is None else amounts
    return SwapSet(
        swap_cell(first & second, labels, money),
        swap_cell(first & ~second, labels, money),
        swap_cell(second & ~first, labels, money),
    )


def swap_cell(rows: _Flags, labels: Labels, amounts: Floats) -> SwapCell:
    """Sum some of n rows.

    Args:
      rows: bool[n].
      labels: int8[n], 1 is fraud, 0 genuine, anything else unknown.
      amounts: float64[n].
    """
    frauds = rows & (labels == 1)
    return SwapCell(
        rows=int(rows.sum()),
        amount=float(amounts[rows].sum()),
        frauds=int(frauds.sum()),
        fraud_amount=float(np.maximum(amounts[frauds], 0).sum()),
        genuine=int((rows & (labels == 0)).sum()),
    )

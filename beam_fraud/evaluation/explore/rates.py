"""Fraud rates of groups of rows, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beam_fraud.evaluation.explore.rows import Floats, Rows, Whole

#: Standard deviations within which 95 % of a normal distribution lies.
_Z = 1.959963984540054


@dataclass(frozen=True)
class Rate:
    """The fraud rate of a group."""

    #: Name of the group.
    group: str
    #: All rows.
    rows: int
    #: Labelled rows.
    labelled: int
    #: Frauds.
    frauds: int
    #: Frauds over labelled rows; None without any.
    rate: float | None
    #: Lower end of the rate's 95 % interval (Wilson); None without labels.
    low: float | None
    #: Its upper end.
    high: float | None


def wilson(hits: npt.ArrayLike, trials: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return the 95 % interval of a share, after Wilson (1927), which holds for rare events too.

    Args:
      hits: int[k].
      trials: int[k], all above 0.

    Returns:
      float64[k] each: lower and upper ends, in 0..1.
    """
    n = np.asarray(trials, dtype=np.float64)
    share = np.asarray(hits, dtype=np.float64) / n
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    # The interval of a share of 0 starts at 0, of 1 ends at 1, whatever the rounding.
    return np.where(share == 0, 0.0, middle - half), np.where(share == 1, 1.0, middle + half)


def rates(names: Sequence[str], codes: Whole, rows: Rows) -> tuple[Rate, ...]:
    """Return the rate of every group.

    Args:
      names: names of k groups.
      codes: int64[n], group of each row in 0 .. k - 1.
      rows: n rows.
    """
    count = len(names)
    every = np.bincount(codes, minlength=count)
    frauds = np.bincount(codes[rows.fraud], minlength=count)
    labelled = np.bincount(codes[rows.genuine], minlength=count) + frauds
    low, high = wilson(frauds, np.maximum(labelled, 1))
    return tuple(
        Rate(
            group=name,
            rows=int(every[place]),
            labelled=int(labelled[place]),
            frauds=int(frauds[place]),
            rate=float(frauds[place] / labelled[place]) if labelled[place] else None,
            low=float(low[place]) if labelled[place] else None,
            high=float(high[place]) if labelled[place] else None,
        )
        for place, name in enumerate(names)
    )

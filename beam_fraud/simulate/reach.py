"""Which terminals lie within a radius of each customer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Candidate pairs that are looked at in one go; bounds the memory, not the result.
_PAIRS_PER_BLOCK = 2_000_000


@dataclass(frozen=True)
class Reach:
    """The terminals of each of n customers, one list after the other."""

    #: int64[n + 1]: customer i's terminals are `terminals[starts[i]:starts[i + 1]]`.
    starts: npt.NDArray[np.int64]
    #: int32[m]: indices of terminals.
    terminals: npt.NDArray[np.int32]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """int64[n]: how many terminals each customer can buy at."""
        return np.diff(self.starts)


def terminals_in_reach(
    customers: npt.NDArray[np.float64], terminals: npt.NDArray[np.float64], radius: float
) -> Reach:
    """Find the terminals at a distance of at most `radius` from each customer.

    The plane is cut into strips as high as the radius, terminals are sorted by strip and x, and
    only those of three strips between x - radius and x + radius are measured.

    Args:
      customers: float64[n, 2], coordinates, none negative.
      terminals: float64[m, 2], likewise.
      radius: above zero, in the unit of the coordinates.
    """
    # So wide that no search in one strip touches the terminals of the next.
    width = max(customers[:, 0].max(), terminals[:, 0].max()) + 2 * radius + 1
    strip = np.floor(terminals[:, 1] / radius)
    order = np.lexsort((terminals[:, 0], strip))
    position = (strip * width + terminals[:, 0])[order]
    nearby = np.floor(customers[:, 1] / radius)[:, None] + np.array([-1.0, 0.0, 1.0])
    centre = nearby * width + customers[:, :1]
    # A little more than the radius, for the rounding of positions; the distance decides.
    margin = radius * (1 + 1e-9)
    first = np.searchsorted(position, centre - margin, side="left")
    count = np.searchsorted(position, centre + margin, side="right") - first

    block = max(1, int(_PAIRS_PER_BLOCK // max(1.0, count.sum(axis=1).mean())))
    sizes, found = [], []
    for start in range(0, len(customers), block):
        part = slice(start, start + block)
        counts = count[part].ravel()
        ends = np.cumsum(counts)
        candidate = np.arange(ends[-1]) + np.repeat(first[part].ravel() - (ends - counts), counts)
        terminal = order[candidate]
        customer = np.repeat(np.arange(len(counts) // 3), count[part].sum(axis=1))
        away = customers[part][customer] - terminals[terminal]
        near = (away**2).sum(axis=1) <= radius**2
        sizes.append(np.bincount(customer[near], minlength=len(counts) // 3))
        found.append(terminal[near].astype(np.int32))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    return Reach(starts, np.concatenate(found))

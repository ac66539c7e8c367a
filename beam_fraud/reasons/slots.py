"""The conditions of leaves by their place on the path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Slot:
    """Condition number i of every leaf that has so many.

    Leaves are sorted by how many conditions they have, most first, so these are the first ones.
    """

    #: How many leaves have it.
    leaves: int
    #: float64[features, leaves], 1 where the leaf's condition is on the feature.
    sums: csr_array


def slots_of(feature: npt.NDArray[np.int64], features: int) -> list[Slot]:
    """The slots of sorted leaves.

    Args:
      feature: int64[leaves, slots], -1 where a leaf has fewer.
      features: how many there are.
    """
    slots = []
    for column in feature.T:
        leaves = int(np.count_nonzero(column >= 0))
        if leaves:
            slots.append(Slot(leaves, sums_of(column[:leaves], features)))
    return slots


def sums_of(origin: npt.NDArray[np.int64], features: int) -> csr_array:
    """The matrix float64[features, n] that adds n rows up by the feature of each, in order."""
    places = (origin, np.arange(len(origin)))
    return csr_array((np.ones(len(origin)), places), shape=(features, len(origin)))

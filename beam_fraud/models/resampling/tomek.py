"""Tomek links: genuine rows that are a fraud's nearest neighbour are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.resampling.base import Resampler
from beam_fraud.models.resampling.neighbours import neighbour_columns


@dataclass(frozen=True)
class Tomek(Resampler):
    """Of two rows that are each other's nearest, one of each class, the genuine one goes.

    Tomek 1976. imbalanced-learn's looks for the nearest neighbour of every row, which takes minutes
    where frauds are rare; only frauds and their nearest rows matter, and that takes no time.
    """

    name: ClassVar[str] = "tomek"
    effect: ClassVar[str] = (
        "Genuine rows that look most like a fraud were left out: next to frauds, scores are "
        "a little larger than the probability of fraud."
    )

    def resample(self, rows: LabelledRows, seed: int) -> LabelledRows:
        """The rows without those genuine ones."""
        prepared = neighbour_columns(rows).fit_transform(rows.matrix)
        return rows.take(np.setdiff1d(np.arange(len(rows.labels)), linked(prepared, rows.labels)))


def linked(matrix: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Positions of the genuine rows that are in a Tomek link, rising.

    Args:
      matrix: float64[n, columns] without NaN.
      labels: int8[n], 1 is fraud.
    """
    neighbours = NearestNeighbors(n_neighbors=2).fit(matrix)

    def nearest(at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        # The first neighbour of a row is the row itself.
        return np.asarray(neighbours.kneighbors(matrix[at], return_distance=False)[:, 1])

    frauds = np.flatnonzero(labels == 1)
    if not len(frauds):
        return frauds
    near = nearest(frauds)
    frauds, near = frauds[labels[near] == 0], near[labels[near] == 0]
    mutual = nearest(near) == frauds if len(near) else np.zeros(0, dtype=bool)
    return np.asarray(np.unique(near[mutual]), dtype=np.int64)

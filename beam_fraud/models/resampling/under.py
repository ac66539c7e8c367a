"""Random under-sampling with corrected scores, and Tomek links."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.resampling.base import Floats, Resampler
from beam_fraud.models.resampling.neighbours import neighbour_columns
from beam_fraud.models.resampling.prior import PriorCorrected, corrected


@dataclass(frozen=True)
class Under(Resampler):
    """Keep all frauds and a random part of the genuine rows."""

    name: ClassVar[str] = "under"
    effect: ClassVar[str] = (
        "Genuine rows were left out at random, which makes scores larger; each score is put back "
        "to what all rows would give (Dal Pozzolo et al. 2015). The order of rows is the same."
    )

    #: Frauds per genuine row afterwards.
    frauds_per_genuine: float = 0.1

    def resample(self, rows: LabelledRows, seed: int) -> LabelledRows:
        """Return the kept rows in their order."""
        self.check(rows)
        sampler = self.library("under_sampling").RandomUnderSampler(
            sampling_strategy=self.frauds_per_genuine, random_state=seed
        )
        # It ignores the values, so NaN may stay.
        sampler.fit_resample(np.arange(len(rows.labels)).reshape(-1, 1), rows.labels)
        return rows.take(np.sort(sampler.sample_indices_))

    def fit(self, kind: ModelKind, rows: LabelledRows, seed: int) -> Any:
        """Return a classifier with probabilities corrected for all rows."""
        left = self.resample(rows, seed)
        return PriorCorrected(kind.fit(left, seed), _kept(left, rows))

    def validate(
        self,
        kind: ModelKind,
        train: LabelledRows,
        resampled: LabelledRows,
        valid: LabelledRows,
        seed: int,
    ) -> tuple[ModelKind, Floats]:
        """Choose settings as every resampler does, with corrected scores."""
        kind, scores = kind.validate(resampled, valid, seed)
        return kind, corrected(scores, _kept(resampled, train))


def _kept(left: LabelledRows, rows: LabelledRows) -> float:
    """Return the share of the kept genuine rows."""
    return float(np.sum(left.labels == 0) / np.sum(rows.labels == 0))


@dataclass(frozen=True)
class Tomek(Resampler):
    """Drop the genuine row of each Tomek link: two nearest neighbours of different classes.

    Tomek 1976. imbalanced-learn searches the nearest neighbour of every row, which takes minutes
    where frauds are rare; only frauds and their nearest rows matter, which is fast.
    """

    name: ClassVar[str] = "tomek"
    effect: ClassVar[str] = (
        "Genuine rows that look most like a fraud were left out: next to frauds, scores are "
        "a little larger than the probability of fraud."
    )

    def resample(self, rows: LabelledRows, seed: int) -> LabelledRows:
        """Return the rows without the genuine rows of Tomek links."""
        prepared = neighbour_columns(rows).fit_transform(rows.matrix)
        return rows.take(np.setdiff1d(np.arange(len(rows.labels)), linked(prepared, rows.labels)))


def linked(matrix: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Return the positions of the genuine rows in a Tomek link, increasing.

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

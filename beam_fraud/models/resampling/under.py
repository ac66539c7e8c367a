"""Leave out genuine rows, and correct the scores of a model that was fitted without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.neighbors import NearestNeighbors

from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.resampling.base import Floats, Resampler, neighbour_columns


def corrected(scores: Floats, kept: float) -> Floats:
    """Return probabilities among all rows, from those among the kept rows.

    p = b s / (b s - s + 1), with b the share of genuine rows that was kept: the odds times b.
    Dal Pozzolo, Caelen, Johnson and Bontempi: Calibrating probability with undersampling for
    unbalanced classification (2015).

    Args:
      scores: float64[n] in 0..1.
      kept: share of genuine rows that was kept, above 0 and up to 1.

    Returns:
      float64[n] in 0..1, in the same order.

    Example:
      >>> corrected(np.array([0.0, 0.5, 1.0]), 0.25).tolist()
      [0.0, 0.2, 1.0]
    """
    shifted = kept * scores
    return np.asarray(shifted / (shifted + (1 - scores)))


class PriorCorrected(ClassifierMixin, BaseEstimator):
    """A fitted classifier with corrected probabilities."""

    def __init__(self, model: Any, kept: float) -> None:
        self.model = model
        self.kept = kept

    @property
    def classes_(self) -> npt.NDArray[np.int64]:
        return np.asarray(self.model.classes_)

    @property
    def n_features_in_(self) -> int:
        return int(self.model.n_features_in_)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_proba(self, matrix: Floats) -> Floats:
        """Return float64[n, 2]: the probabilities of genuine and fraud."""
        fraud = corrected(np.asarray(self.model.predict_proba(matrix)[:, 1], np.float64), self.kept)
        return np.column_stack([1 - fraud, fraud])

    def predict(self, matrix: Floats) -> npt.NDArray[np.int64]:
        """Return the likelier class of each row, int64[n]."""
        return np.asarray(self.classes_[np.argmax(self.predict_proba(matrix), axis=1)])


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
        return PriorCorrected(kind.fit(left, seed), _share_of_genuine(left, rows))

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
        return kind, corrected(scores, _share_of_genuine(resampled, train))


def _share_of_genuine(left: LabelledRows, rows: LabelledRows) -> float:
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

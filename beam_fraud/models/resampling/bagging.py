"""Balanced bagging: several models, each fitted on a sample with fewer genuine rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin

from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.resampling.base import Floats, Resampler
from beam_fraud.models.resampling.under import PriorCorrected, Under


class Bagged(ClassifierMixin, BaseEstimator):
    """Fitted classifiers whose probabilities are averaged.

    A plain list in a plain class: a bundle opens without imbalanced-learn.
    """

    def __init__(self, models: list[Any]) -> None:
        self.models = models

    @property
    def classes_(self) -> npt.NDArray[np.int64]:
        return np.asarray(self.models[0].classes_)

    @property
    def n_features_in_(self) -> int:
        return int(self.models[0].n_features_in_)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_proba(self, matrix: Floats) -> Floats:
        """Return float64[n, 2]: the probabilities of genuine and fraud."""
        total = np.zeros((len(matrix), 2))
        for model in self.models:
            total += model.predict_proba(matrix)
        return total / len(self.models)

    def predict(self, matrix: Floats) -> npt.NDArray[np.int64]:
        """Return the likelier class of each row, int64[n]."""
        return np.asarray(self.classes_[np.argmax(self.predict_proba(matrix), axis=1)])


@dataclass(frozen=True)
class BalancedBagging(Resampler):
    """Under-sampling without its waste: each sample drops other genuine rows.

    A prediction costs as much as those of all members together.
    """

    name: ClassVar[str] = "balanced-bagging"
    effect: ClassVar[str] = (
        "Each of several models saw a random part of the genuine rows, which makes scores larger; "
        "their mean is put back to what all rows would give (Dal Pozzolo et al. 2015)."
    )

    #: Frauds per genuine row in each sample.
    frauds_per_genuine: float = 0.1
    #: Models whose probabilities are averaged.
    members: int = 10

    def resample(self, rows: LabelledRows, seed: int) -> LabelledRows:
        """Return one sample, for choices that all members share."""
        return Under(self.frauds_per_genuine).resample(rows, seed)

    def fit(self, kind: ModelKind, rows: LabelledRows, seed: int) -> Any:
        """Return the mean of the members with corrected probabilities."""
        self.check(rows)
        bagging = self.library("ensemble").BalancedBaggingClassifier(
            estimator=_KindClassifier(kind, rows.categorical),
            n_estimators=self.members,
            sampling_strategy=self.frauds_per_genuine,
            random_state=seed,
        )
        bagging.fit(rows.matrix, rows.labels)
        # Each member is a pipeline of a sampler, which predictions skip, and a model.
        models = [pipeline.steps[-1][1].model_ for pipeline in bagging.estimators_]
        frauds = int(rows.labels.sum())
        share = frauds / self.frauds_per_genuine / (len(rows.labels) - frauds)
        return PriorCorrected(Bagged(models), share)

    def validate(
        self,
        kind: ModelKind,
        train: LabelledRows,
        resampled: LabelledRows,
        valid: LabelledRows,
        seed: int,
    ) -> tuple[ModelKind, Floats]:
        """Choose settings on one sample, then score with all members."""
        kind, _ = kind.validate(resampled, valid, seed)
        return kind, predict_scores(self.fit(kind, train, seed), valid.matrix)

    def files(self, kind: ModelKind, model: Any) -> dict[str, bytes]:
        """Return no files: the history of one member says little about all."""
        return {}


class _KindClassifier(ClassifierMixin, BaseEstimator):
    """A kind as the estimator that bagging copies and fits."""

    def __init__(
        self, kind: ModelKind, categorical: tuple[int, ...], random_state: int = 0
    ) -> None:
        self.kind = kind
        self.categorical = categorical
        self.random_state = random_state

    def fit(self, matrix: Floats, labels: npt.NDArray[np.int64]) -> _KindClassifier:
        """Fit the kind on a sample; bagging's renumbering of classes keeps 0 and 1."""
        rows = LabelledRows(matrix, labels.astype(np.int8), self.categorical)
        self.model_ = self.kind.fit(rows, self.random_state)
        self.classes_ = np.array([0, 1])
        return self

    def predict(self, matrix: Floats) -> npt.NDArray[np.int64]:
        """Return the likelier class of each row, int64[n], which bagging requires."""
        return np.asarray(self.model_.predict(matrix))

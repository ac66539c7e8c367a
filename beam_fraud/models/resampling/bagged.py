"""The mean of several fitted models."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin

Floats = npt.NDArray[np.float64]


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

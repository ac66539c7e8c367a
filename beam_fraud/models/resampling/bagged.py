"""The mean of several fitted models."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin

Floats = npt.NDArray[np.float64]


class Bagged(ClassifierMixin, BaseEstimator):
    """Fitted classifiers that vote with their probabilities.

    A plain list in a plain class: a bundle of it can be opened without what drew the rows.
    """

    def __init__(self, models: list[Any]) -> None:
        self.models = models

    @property
    def classes_(self) -> npt.NDArray[np.int64]:
        """Those of all of them."""
        return np.asarray(self.models[0].classes_)

    @property
    def n_features_in_(self) -> int:
        """That of all of them."""
        return int(self.models[0].n_features_in_)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_proba(self, matrix: Floats) -> Floats:
        """float64[n, 2]: genuine, fraud."""
        total = np.zeros((len(matrix), 2))
        for model in self.models:
            total += model.predict_proba(matrix)
        return total / len(self.models)

    def predict(self, matrix: Floats) -> npt.NDArray[np.int64]:
        """int64[n]: the likelier class."""
        return np.asarray(self.classes_[np.argmax(self.predict_proba(matrix), axis=1)])

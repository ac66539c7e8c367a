"""The base of ensembles of classifiers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from beam_fraud.models.predict import predict_scores


class EnsembleClassifier(ClassifierMixin, BaseEstimator, ABC):
    """Members that are fitted on the same rows, and a combination of their scores.

    Args:
      members: names and unfitted classifiers, which stay unfitted.
    """

    def __init__(self, members: Sequence[tuple[str, Any]]) -> None:
        self.members = members

    def fit(self, matrix: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]) -> Self:
        """Fit every member and the combination on rows in time order.

        Args:
          matrix: float64[n, features], NaN where a value is absent.
          labels: int8[n] of both classes, 1 is fraud.

        Raises:
          FraudError: the combination needs more frauds.
        """
        self.classes_ = np.unique(labels)
        self.n_features_in_ = matrix.shape[1]
        self._fit_combination(matrix, labels)
        self.members_: list[tuple[str, Any]] = [
            (name, clone(member).fit(matrix, labels)) for name, member in self.members
        ]
        return self

    def predict_proba(self, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n, 2]: one less the score, and the score."""
        scores = self.combine(self.member_scores(matrix))
        return np.column_stack([1 - scores, scores])

    def member_scores(self, matrix: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
        """Return the scores of each fitted member, float64[n] each."""
        return [predict_scores(member, matrix) for _, member in self.members_]

    @abstractmethod
    def combine(self, scores: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """Return the ensemble's score in 0..1 of each row, from float64[n] of each member.

        A row's score depends on no other row.
        """

    def _fit_combination(
        self, matrix: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]
    ) -> None:
        """Learn what `combine` needs from rows in time order."""

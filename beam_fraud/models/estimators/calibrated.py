"""A fitted classifier whose scores are mapped to probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin

from beam_fraud.models.predict import predict_scores


class Calibrated(ClassifierMixin, BaseEstimator):
    """A fitted model and its calibration.

    scikit-learn's CalibratedClassifierCV calibrates the model that it keeps. Here the calibration
    was learned with a model of earlier rows, and the kept model was fitted on all rows.

    Args:
      model: a fitted classifier of two classes, genuine first.
      calibration: from float64[n] scores to float64[n] probabilities, both in 0..1.
    """

    def __init__(
        self,
        model: Any,
        calibration: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
    ) -> None:
        self.model = model
        self.calibration = calibration

    @property
    def classes_(self) -> npt.NDArray[Any]:
        """The labels of genuine and fraud, as in the model."""
        classes: npt.NDArray[Any] = self.model.classes_
        return classes

    @property
    def n_features_in_(self) -> int:
        """Number of features."""
        taken: int = self.model.n_features_in_
        return taken

    def __sklearn_is_fitted__(self) -> bool:
        """Return True: scikit-learn's checks accept it as fitted."""
        return True

    def predict_proba(self, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n, 2]: the probabilities of genuine and of fraud."""
        fraud = self.calibration(predict_scores(self.model, matrix))
        return np.column_stack([1 - fraud, fraud])

"""Map scores to log-odds and to probabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.predict import predict_scores

#: Smoothing added to both sides of the odds. A forest that scores 0 has seen no fraud in some
#: hundred leaves, not in infinitely many: its log-odds are -9.2, and other members can outvote it.
SMOOTHING = 1e-4


def log_odds(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the log-odds of float64[n] scores in 0..1, from -9.2 to 9.2, rising with the score.

    Smoothed, not clipped: clipping would make different scores equal.

    Example:
      >>> log_odds(np.array([0.0, 0.5, 1.0])).round(1).tolist()
      [-9.2, 0.0, 9.2]
    """
    smoothed: npt.NDArray[np.float64] = np.log((scores + SMOOTHING) / (1 - scores + SMOOTHING))
    return smoothed


def probability(odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the score in 0..1 of float64[n] log-odds."""
    scores: npt.NDArray[np.float64] = expit(odds)
    return scores


#: Names of the methods on the command line.
Method = Literal["isotonic", "platt"]
#: The option of a calibration.
OPTION = "--calibrate"


class Calibration(ABC):
    """A strictly increasing map of scores: ranks stay."""

    #: Name on the command line.
    method: ClassVar[Method]

    @abstractmethod
    def __call__(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the probabilities of float64[n] scores in 0..1."""


@dataclass(frozen=True)
class Platt(Calibration):
    """A line through log-odds (Platt 1999): smooth, and fit for few frauds."""

    method: ClassVar[Method] = "platt"

    #: Log-odds of the probability by log-odds of the score; above 0.
    slope: float
    #: Log-odds of the probability where the score is a half.
    intercept: float

    def __call__(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return probability(self.slope * log_odds(scores) + self.intercept)


@dataclass(frozen=True)
class Isotonic(Calibration):
    """Isotonic steps along the shares of fraud: for a thousand frauds or more.

    Scores on one step would become equal, which would cost average precision, so a millionth of the
    score itself is mixed in.
    """

    method: ClassVar[Method] = "isotonic"
    #: Share of the score in the result, which separates scores on one step.
    MIXED_IN: ClassVar[float] = 1e-6

    #: float64[k]: rising scores.
    scores: npt.NDArray[np.float64]
    #: float64[k]: their probabilities, non-decreasing; linear in between.
    probabilities: npt.NDArray[np.float64]

    def __call__(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        steps = np.interp(scores, self.scores, self.probabilities)
        return steps + self.MIXED_IN * (scores - steps)


def learn_calibration(
    method: Method, labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]
) -> Calibration:
    """Fit a calibration.

    Args:
      method: the method.
      labels: int8[n] of both classes, 1 is fraud.
      scores: float64[n] in 0..1, by a model that was not fitted on these rows.

    Raises:
      FraudError: the share of frauds does not rise with the score.
    """
    calibration = _platt(labels, scores) if method == "platt" else _isotonic(labels, scores)
    if calibration is None:
        raise FraudError(
            f"{OPTION} {method}: on the validation rows frauds do not have higher scores than "
            "genuine transactions, so no score means a fraud; train another model",
            Code.TRAINING_FAILED,
        )
    return calibration


def _platt(labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]) -> Platt | None:
    # Platt's targets lie a little inside 0 and 1, so that separable scores give no steps: each row
    # counts once as a fraud and once as genuine, weighted by its target.
    frauds = int(labels.sum())
    high, low = (frauds + 1) / (frauds + 2), 1 / (len(labels) - frauds + 2)
    targets = np.where(labels == 1, high, low)
    column = np.tile(log_odds(scores), 2)[:, None]
    regression = LogisticRegression(C=np.inf, max_iter=1000).fit(
        column,
        np.repeat([1, 0], len(labels)),
        sample_weight=np.concatenate([targets, 1 - targets]),
    )
    slope = float(regression.coef_[0, 0])
    return Platt(slope, float(regression.intercept_[0])) if slope > 0 else None


def _isotonic(labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]) -> Isotonic | None:
    regression = IsotonicRegression(y_min=0, y_max=1).fit(scores, labels)
    steps = np.asarray(regression.y_thresholds_, dtype=np.float64)
    if steps[0] == steps[-1]:
        return None
    return Isotonic(np.asarray(regression.X_thresholds_, dtype=np.float64), steps)


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
        count: int = self.model.n_features_in_
        return count

    def __sklearn_is_fitted__(self) -> bool:
        """Return True: scikit-learn's checks accept it as fitted."""
        return True

    def predict_proba(self, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n, 2]: the probabilities of genuine and of fraud."""
        fraud = self.calibration(predict_scores(self.model, matrix))
        return np.column_stack([1 - fraud, fraud])

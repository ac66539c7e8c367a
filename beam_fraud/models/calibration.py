"""Calibration: increasing maps from scores to probabilities of fraud."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.estimators.log_odds import log_odds, probability

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

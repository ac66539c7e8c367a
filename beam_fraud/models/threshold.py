"""Rules that choose a threshold from scores and labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import Code, FraudError, UsageError

#: The option of the review threshold.
OPTION = "--threshold"
_SYNTAX = "f1, precision=X, recall=X, budget=N, cost=FN:FP, cost=amount:FP or a number from 0 to 1"


@dataclass(frozen=True)
class Operating:
    """Effects of each possible threshold on n labelled rows, highest threshold first."""

    #: float64[k]: the distinct scores, decreasing; a score of at least the threshold is flagged.
    thresholds: npt.NDArray[np.float64]
    #: int64[k]: rows flagged.
    flagged: npt.NDArray[np.int64]
    #: int64[k]: frauds among the flagged rows.
    caught: npt.NDArray[np.int64]
    #: Frauds among all rows.
    frauds: int
    #: Time span of the rows in days.
    days: float
    #: float64[k]: sum of the amounts of missed frauds; None without amounts.
    missed_amount: npt.NDArray[np.float64] | None = None

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """float64[k]: frauds among the flagged."""
        return self.caught / self.flagged

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """float64[k]: flagged among the frauds."""
        return self.caught / self.frauds


def operating_points(
    labels: npt.NDArray[np.int8],
    scores: npt.NDArray[np.float64],
    days: float,
    amounts: npt.NDArray[np.float64] | None = None,
) -> Operating:
    """Return the effects of every distinct threshold.

    Args:
      labels: int8[n], 1 is fraud; at least one fraud.
      scores: float64[n].
      days: time span of the rows.
      amounts: float64[n], amounts of the transactions, or None; a refund counts as no loss.
    """
    falling = np.argsort(-scores, kind="stable")
    ordered = scores[falling]
    last_of_tie = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    caught = np.cumsum(labels[falling], dtype=np.int64)[last_of_tie]
    missed = None
    if amounts is not None:
        lost = np.where(labels == 1, np.maximum(amounts, 0.0), 0.0)
        missed = lost.sum() - np.cumsum(lost[falling])[last_of_tie]
    frauds = int(labels.sum())
    return Operating(ordered[last_of_tie], last_of_tie + 1, caught, frauds, days, missed)


class ThresholdRule(ABC):
    """A rule that chooses a threshold."""

    @abstractmethod
    def choose(self, points: Operating, option: str = OPTION) -> float:
        """Return the score from which to flag.

        Args:
          points: effects of each threshold.
          option: name of the option, for error messages.

        Raises:
          FraudError: no threshold reaches the target.
        """


@dataclass(frozen=True)
class MostF1(ThresholdRule):
    """Maximise F1, the harmonic mean of precision and recall."""

    def choose(self, points: Operating, option: str = OPTION) -> float:
        """Return the highest threshold with the highest F1."""
        # F1 = 2 TP / (2 TP + FP + FN), and TP + FP and TP + FN are the flagged and the frauds.
        f1 = 2 * points.caught / (points.flagged + points.frauds)
        return float(points.thresholds[np.argmax(f1)])


@dataclass(frozen=True)
class AtLeastPrecision(ThresholdRule):
    """Maximise the flagged frauds at a required precision."""

    #: Frauds among the flagged, above 0 and up to 1.
    target: float

    def choose(self, points: Operating, option: str = OPTION) -> float:
        """Return the highest threshold with the most frauds at this precision."""
        enough = points.precision >= self.target
        if not enough.any():
            best = int(np.argmax(points.precision))
            raise FraudError(
                f"{option} precision={self.target:g}: not reachable on the validation rows, at "
                f"most {points.precision[best]:.3g} (with a recall of {points.recall[best]:.3g})",
                Code.THRESHOLD_UNREACHABLE,
            )
        return float(points.thresholds[np.argmax(np.where(enough, points.caught, -1))])


@dataclass(frozen=True)
class AtLeastRecall(ThresholdRule):
    """Minimise the alerts at a required recall."""

    #: Flagged among the frauds, above 0 and up to 1; a threshold low enough reaches any.
    target: float

    def choose(self, points: Operating, option: str = OPTION) -> float:
        """Return the highest threshold with this recall."""
        return float(points.thresholds[np.argmax(points.recall >= self.target)])


@dataclass(frozen=True)
class AlertBudget(ThresholdRule):
    """Flag as many transactions as people can check."""

    #: Alerts a day, on average.
    per_day: float

    def choose(self, points: Operating, option: str = OPTION) -> float:
        """Return the lowest threshold that keeps within the budget."""
        label = f"{option} budget={self.per_day:g}"
        if points.days <= 0:
            raise FraudError(
                f"{label}: the validation rows are all of one moment", Code.THRESHOLD_UNREACHABLE
            )
        affordable = points.flagged <= self.per_day * points.days
        if not affordable.any():
            fewest = points.flagged[0] / points.days
            raise FraudError(
                f"{label}: not reachable on the {points.days:.3g} days of validation rows, the "
                f"highest score alone makes {fewest:.4g} alerts a day",
                Code.THRESHOLD_UNREACHABLE,
            )
        return float(points.thresholds[np.flatnonzero(affordable)[-1]])


@dataclass(frozen=True)
class LeastCost(ThresholdRule):
    """Minimise the cost of missed frauds and false alarms."""

    #: Cost of a missed fraud.
    missed: float
    #: Cost of a false alarm, in the same unit.
    false_alarm: float

    def choose(self, points: Operating, option: str = OPTION) -> float:
        """Return the highest threshold of the lowest cost."""
        misses = points.frauds - points.caught
        alarms = points.flagged - points.caught
        return float(points.thresholds[np.argmin(self.missed * misses + self.false_alarm * alarms)])


@dataclass(frozen=True)
class LeastLoss(ThresholdRule):
    """Minimise the loss, where a missed fraud costs its amount."""

    #: Cost of a false alarm, in the currency of the amounts.
    false_alarm: float

    def choose(self, points: Operating, option: str = OPTION) -> float:
        """Return the highest threshold of the lowest cost."""
        if points.missed_amount is None:
            raise FraudError(
                f"{option} cost=amount:{self.false_alarm:g}: amounts are unknown", Code.ROLE_MISSING
            )
        alarms = points.flagged - points.caught
        cost = points.missed_amount + self.false_alarm * alarms
        return float(points.thresholds[np.argmin(cost)])


@dataclass(frozen=True)
class FixedThreshold(ThresholdRule):
    """A fixed threshold."""

    #: The score from which to flag, 0 to 1.
    threshold: float

    def choose(self, points: Operating, option: str = OPTION) -> float:
        """Return the fixed threshold."""
        return self.threshold


def parse_threshold(text: str, option: str = OPTION) -> ThresholdRule:
    """Parse a rule of the command line.

    Args:
      text: the rule.
      option: name of the option, for error messages.

    Raises:
      UsageError: the rule is unknown, or a value is out of range.

    Example:
      >>> parse_threshold("cost=100:1")
      LeastCost(missed=100.0, false_alarm=1.0)
    """
    name, _, value = text.strip().partition("=")
    try:
        if name == "f1" and not value:
            return MostF1()
        if name == "precision":
            return AtLeastPrecision(_between(value, 0, 1))
        if name == "recall":
            return AtLeastRecall(_between(value, 0, 1))
        if name == "budget":
            return AlertBudget(_between(value, 0, float("inf")))
        if name == "cost":
            missed, _, false_alarm = value.partition(":")
            alarm = _between(false_alarm, 0, float("inf"))
            if missed == "amount":
                return LeastLoss(alarm)
            return LeastCost(_between(missed, 0, float("inf")), alarm)
        return FixedThreshold(_share(text))
    except ValueError:
        raise UsageError(f"{option} {text}: not one of {_SYNTAX}", Code.OPTION_VALUE) from None


def _between(text: str, low: float, high: float) -> float:
    number = float(text)
    if not low < number <= high or number == float("inf"):
        raise ValueError(text)
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError(text)
    return number

"""Ensembles of kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from beam_fraud.errors import Code, UsageError
from beam_fraud.models.estimators.ensemble import LogitAverage, Member, StackedLogits, mean_log_odds
from beam_fraud.models.estimators.ensemble import RankAverage as Ranked
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.kinds.forest import Forest
from beam_fraud.models.kinds.hist_gradient_boosting import HistGradientBoosting
from beam_fraud.models.metrics import gain_interval
from beam_fraud.models.predict import predict_scores


@dataclass(frozen=True)
class Ensemble(ModelKind):
    """Several kinds that are fitted on the same rows."""

    #: The members. A kind may occur twice: each has its own seed.
    members: tuple[ModelKind, ...] = (Forest(), HistGradientBoosting())

    @property
    def parts(self) -> Mapping[str, ModelKind]:
        """Return the members by name; the second of a kind is `forest_2`."""
        seen: Counter[str] = Counter()
        named = {}
        for member in self.members:
            seen[member.name] += 1
            count = seen[member.name]
            named[member.name if count == 1 else f"{member.name}_{count}"] = member
        return named

    def with_part(self, name: str, part: ModelKind) -> Self:
        """Return the ensemble with another member of this name."""
        return replace(self, members=tuple({**self.parts, name: part}.values()))

    def of(self, members: Sequence[ModelKind]) -> ModelKind:
        """Return the ensemble of these kinds.

        Raises:
          UsageError: there are fewer than two members.
        """
        if len(members) < 2:
            raise UsageError(
                f"--model {self.name}: needs two members or more, as in "
                f"{self.name}:{'+'.join(self.parts)}",
                Code.MODEL_KIND,
            )
        return replace(self, members=tuple(members))

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        """Choose the settings of every member by the validation rows."""
        chosen, _ = self._members_validated(train, valid, seed)
        return chosen, predict_scores(chosen.fit(train, seed), valid.matrix)

    def _members_validated(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, list[npt.NDArray[np.float64]]]:
        """Return the ensemble with the members' chosen settings, and the scores of each member."""
        results = [member.validate(train, valid, seed + i) for i, member in enumerate(self.members)]
        return (
            replace(self, members=tuple(member for member, _ in results)),
            [scores for _, scores in results],
        )

    def _unfitted(self, rows: LabelledRows, seed: int) -> list[tuple[str, Any]]:
        return [
            (name, Member(member, rows.categorical, seed + i))
            for i, (name, member) in enumerate(self.parts.items())
        ]


@dataclass(frozen=True)
class RankAverage(Ensemble):
    """The mean of the members' ranks, for members whose scores are not comparable.

    A score is a rank: about one transaction in a hundred has 0.99 or more. Each member is fitted
    twice, because its ranks are learned on unseen rows.
    """

    name: ClassVar[str] = "rank_average"

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the average of members that are still to be fitted."""
        return Ranked(self._unfitted(rows, seed))


#: Number of shares of the total weight: finer weights would fit noise.
SHARES = 4


def best_weights(
    labels: npt.NDArray[np.int8],
    scores: Sequence[npt.NDArray[np.float64]],
    tolerance: float,
    seed: int,
) -> tuple[float, ...]:
    """Return the weights with the best average precision, equal ones unless clearly better.

    The best of many weights looks better than it is, so its gain must exceed `tolerance` and be
    above 0 in 95 of 100 draws of the rows.

    Args:
      labels: int8[n] of rows that the members were not fitted on.
      scores: float64[n] of each of k members.
      tolerance: gain in average precision required over equal weights.
      seed: of the draws.

    Returns:
      k weights with sum 1, each a multiple of a quarter, or equal ones.
    """
    equal = (1 / len(scores),) * len(scores)
    best = max(_grid(len(scores), SHARES), key=lambda w: _precision(labels, scores, w))
    if _precision(labels, scores, best) <= _precision(labels, scores, equal) + tolerance:
        return equal
    averages = [mean_log_odds(scores, weights) for weights in (equal, best)]
    lowest, _ = gain_interval([labels], averages[:1], averages[1:], seed)
    return best if lowest > 0 else equal


def _precision(
    labels: npt.NDArray[np.int8],
    scores: Sequence[npt.NDArray[np.float64]],
    weights: tuple[float, ...],
) -> float:
    return float(average_precision_score(labels, mean_log_odds(scores, weights)))


def _grid(members: int, shares: int) -> Iterator[tuple[float, ...]]:
    """Yield all ways to divide `shares` shares among members."""
    if members == 1:
        yield (shares / SHARES,)
        return
    for first in range(shares + 1):
        for rest in _grid(members - 1, shares - first):
            yield (first / SHARES, *rest)


@dataclass(frozen=True)
class Average(Ensemble):
    """The mean of the members' log-odds, with weights chosen by validation rows.

    The search is coarse, in quarters, and equal weights stay unless others are clearly better:
    finer weights would fit the few frauds among the validation rows.
    """

    name: ClassVar[str] = "average"

    #: Weight of each member, all 0 for equal weights; if empty, validation rows choose.
    weights: tuple[float, ...] = ()
    #: Gain in average precision that weights need over equal ones: less is noise.
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        """Check the weights.

        Raises:
          UsageError: a weight is negative or infinite, or their number differs from the members'.
        """
        if self.weights and len(self.weights) != len(self.members):
            raise UsageError(
                f"--set weights: {len(self.weights)} of them for {len(self.members)} members",
                Code.MODEL_SETTING,
            )
        if not all(0 <= weight < np.inf for weight in self.weights):
            raise UsageError("--set weights: must be numbers from 0 on", Code.MODEL_SETTING)

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the average of members that are still to be fitted."""
        return LogitAverage(self._unfitted(rows, seed), self.weights)

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        """Choose every member's settings, then the weights, by the same rows."""
        chosen, scores = self._members_validated(train, valid, seed)
        weights = self.weights or best_weights(valid.labels, scores, self.tolerance, seed)
        return replace(chosen, weights=weights), mean_log_odds(scores, weights)


@dataclass(frozen=True)
class Stacking(Ensemble):
    """A regression over members' scores of rows that they had not seen, forward in time.

    Each part costs one more fit of every member.
    """

    name: ClassVar[str] = "stacking"

    #: Inverse strength of the regression's L2 penalty.
    c: float = 0.1
    #: Number of later parts that members score after a fit on the earlier ones.
    folds: int = 3

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
          UsageError: a setting is out of its range.
        """
        if not 0 < self.c < float("inf"):
            raise UsageError(f"--set c={self.c:g}: must be above 0", Code.MODEL_SETTING)
        if self.folds < 1:
            raise UsageError(f"--set folds={self.folds}: must be at least 1", Code.MODEL_SETTING)

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the stack of members that are still to be fitted."""
        return StackedLogits(self._unfitted(rows, seed), self.c, self.folds)

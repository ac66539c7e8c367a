"""What kinds made of other kinds share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from beam_fraud.errors import UsageError
from beam_fraud.models.estimators.logit_average import LogitAverage, mean_log_odds
from beam_fraud.models.estimators.member import Member
from beam_fraud.models.estimators.rank_average import RankAverage as Ranked
from beam_fraud.models.estimators.stacked_logits import StackedLogits
from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.kinds.forest import Forest
from beam_fraud.models.kinds.hist_gradient_boosting import HistGradientBoosting
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.resampling.noise import gain_interval


@dataclass(frozen=True)
class Ensemble(ModelKind):
    """Several kinds, fitted on the same rows; these unless others are named."""

    #: What is fitted. One kind may be there twice: each has a seed of its own.
    members: tuple[ModelKind, ...] = (Forest(), HistGradientBoosting())

    @property
    def parts(self) -> Mapping[str, ModelKind]:
        """Its members, the second of a kind as `forest_2`."""
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
          UsageError: there are fewer than two.
        """
        if len(members) < 2:
            raise UsageError(
                f"--model {self.name}: needs two members or more, as in "
                f"{self.name}:{'+'.join(self.parts)}"
            )
        return replace(self, members=tuple(members))

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        """Let every member choose its settings by the validation rows."""
        chosen, _ = self._members_validated(train, valid, seed)
        return chosen, predict_scores(chosen.fit(train, seed), valid.matrix)

    def _members_validated(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, list[npt.NDArray[np.float64]]]:
        """Return the ensemble of the members with their chosen settings, and the scores of each."""
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
    """The mean of the members' ranks, for members whose scores mean different things.

    A score is a rank: of a hundred transactions about one has 0.99 or more. Each member is fitted
    twice, for its ranks are learned on rows that it has not seen.
    """

    name: ClassVar[str] = "rank_average"

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the average of members that are still to be fitted."""
        return Ranked(self._unfitted(rows, seed))


#: Into how many shares the weight is divided: finer weights would fit noise.
SHARES = 4


def best_weights(
    labels: npt.NDArray[np.int8],
    scores: Sequence[npt.NDArray[np.float64]],
    tolerance: float,
    seed: int,
) -> tuple[float, ...]:
    """The weights whose average has the best average precision, equal ones unless clearly better.

    The best of many weights looks better than it is. So its gain must be larger than `tolerance`,
    and above 0 in 95 of 100 draws of the rows, too.

    Args:
      labels: int8[n] of rows that the members were not fitted on.
      scores: float64[n] of each of k members.
      tolerance: average precision that must be gained over equal weights.
      seed: of the draws.

    Returns:
      k weights that sum to 1, each a whole number of quarters, or equal ones.
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
    """Yield all ways to give `shares` shares to members."""
    if members == 1:
        yield (shares / SHARES,)
        return
    for first in range(shares + 1):
        for rest in _grid(members - 1, shares - first):
            yield (first / SHARES, *rest)


@dataclass(frozen=True)
class Average(Ensemble):
    """The mean of the members' log-odds, weighted as later rows call for.

    The search is coarse, in quarters, and equal weights stay unless others are clearly better:
    finer ones would be fitted to the few frauds among the validation rows.
    """

    name: ClassVar[str] = "average"

    #: Of each member, all 0 for equal ones; where none are given the validation rows choose.
    weights: tuple[float, ...] = ()
    #: Average precision that weights must gain over equal ones: less is their own noise.
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        """Refuse weights that no mean can be taken with.

        Raises:
          UsageError: one is below 0 or without bounds, or there is not one for each member.
        """
        if self.weights and len(self.weights) != len(self.members):
            raise UsageError(
                f"--set weights: {len(self.weights)} of them for {len(self.members)} members"
            )
        if not all(0 <= weight < np.inf for weight in self.weights):
            raise UsageError("--set weights: must be numbers from 0 on")

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the average of members that are still to be fitted."""
        return LogitAverage(self._unfitted(rows, seed), self.weights)

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        """Let every member choose its settings, then choose the weights by the same rows."""
        chosen, scores = self._members_validated(train, valid, seed)
        weights = self.weights or best_weights(valid.labels, scores, self.tolerance, seed)
        return replace(chosen, weights=weights), mean_log_odds(scores, weights)


@dataclass(frozen=True)
class Stacking(Ensemble):
    """A regression that learns from scores of rows the members had not seen, forward in time.

    Each member is fitted once more for every part.
    """

    name: ClassVar[str] = "stacking"

    #: Inverse strength of the regression's L2 penalty.
    c: float = 0.1
    #: Times that members are fitted on earlier rows to score the ones that follow.
    folds: int = 3

    def __post_init__(self) -> None:
        """Refuse what no stack can be.

        Raises:
          UsageError: a setting is out of its range.
        """
        if not 0 < self.c < float("inf"):
            raise UsageError(f"--set c={self.c:g}: must be above 0")
        if self.folds < 1:
            raise UsageError(f"--set folds={self.folds}: must be at least 1")

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the stack of members that are still to be fitted."""
        return StackedLogits(self._unfitted(rows, seed), self.c, self.folds)

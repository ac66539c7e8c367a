"""The mean of other kinds' log-odds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import UsageError
from beam_fraud.models.estimators.logit_average import LogitAverage, mean_log_odds
from beam_fraud.models.kinds.ensemble import Ensemble
from beam_fraud.models.kinds.weights import best_weights
from beam_fraud.models.labelled import LabelledRows


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
        """The average of members that are still to be fitted."""
        return LogitAverage(self._unfitted(rows, seed), self.weights)

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        """Let every member choose its settings, then choose the weights by the same rows."""
        chosen, scores = self._members_validated(train, valid, seed)
        weights = self.weights or best_weights(valid.labels, scores, self.tolerance, seed)
        return replace(chosen, weights=weights), mean_log_odds(scores, weights)


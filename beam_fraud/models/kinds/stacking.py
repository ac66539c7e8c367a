"""A logistic regression over other kinds' log-odds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from beam_fraud.errors import UsageError
from beam_fraud.models.estimators.stacked_logits import StackedLogits
from beam_fraud.models.kinds.ensemble import Ensemble
from beam_fraud.models.labelled import LabelledRows


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
        """The stack of members that are still to be fitted."""
        return StackedLogits(self._unfitted(rows, seed), self.c, self.folds)

"""A logistic regression over several models' log-odds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from beam_fraud.models.estimators.ensemble import EnsembleClassifier
from beam_fraud.models.estimators.forward import forward_cuts, forward_scores
from beam_fraud.models.estimators.log_odds import log_odds, probability

#: Share of the frauds in the first rows, which members are fitted on and the regression never is.
FIRST_SHARE = 0.5


class StackedLogits(EnsembleClassifier):
    """A regression that learns whom to trust from scores of rows the members had not seen.

    It is fitted forward in time: members fitted on the first rows score the next ones, members
    fitted on both score those after, and so on. Then members are fitted on all rows.

    Args:
      members: names and unfitted classifiers.
      c: inverse strength of the regression's L2 penalty.
      parts: times that members are fitted to score the rows that follow.
    """

    def __init__(self, members: Sequence[tuple[str, Any]], c: float = 0.1, parts: int = 3) -> None:
        super().__init__(members)
        self.c = c
        self.parts = parts

    def combine(self, scores: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        # One by one: the sums of a matrix product depend on how many rows there are.
        total = np.full_like(scores[0], self.intercept_)
        for coefficient, member in zip(self.coefficients_, scores, strict=True):
            total += coefficient * log_odds(member)
        return probability(total)

    def _fit_combination(
        self, matrix: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]
    ) -> None:
        cuts = forward_cuts(labels, FIRST_SHARE, self.parts)
        seen = [forward_scores(member, matrix, labels, cuts) for _, member in self.members]
        columns = np.column_stack([log_odds(scores) for scores in seen])
        regression = LogisticRegression(C=self.c).fit(columns, labels[cuts[0] :])
        self.coefficients_: list[float] = regression.coef_[0].tolist()
        self.intercept_ = float(regression.intercept_[0])

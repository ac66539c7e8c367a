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

#: Share of the frauds in the first rows, on which members are fitted, but not the regression.
FIRST_SHARE = 0.5


class StackedLogits(EnsembleClassifier):
    """A logistic regression over members' scores of rows that they were not fitted on.

    Fit forward in time: members fitted on the first rows score the next part, members fitted on
    both score the part after, and so on. In the end, members are fitted on all rows.

    Args:
      members: names and unfitted classifiers.
      c: inverse strength of the regression's L2 penalty.
      parts: number of later parts that members score.
    """

    def __init__(self, members: Sequence[tuple[str, Any]], c: float = 0.1, parts: int = 3) -> None:
        super().__init__(members)
        self.c = c
        self.parts = parts

    def combine(self, scores: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        # Add members one by one: the sums of a matrix product depend on the number of rows.
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

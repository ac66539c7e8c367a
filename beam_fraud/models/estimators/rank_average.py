"""The mean of several models' ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from beam_fraud.models.estimators.empirical_rank import EmpiricalRank
from beam_fraud.models.estimators.ensemble import EnsembleClassifier
from beam_fraud.models.estimators.forward import forward_cuts, forward_scores

#: Share of the frauds in the first rows; members fitted there show how their scores spread on the
#: rest.
FITTED_SHARE = 0.75


class RankAverage(EnsembleClassifier):
    """The mean of the members' ranks, each among the member's scores of unseen rows.

    A member is surer on the rows it was fitted on than on any others. So each member is fitted on
    the first rows, and ranks refer to its scores of the last ones. Ranks are fixed after that: a
    single row can be scored.

    Args:
      members: names and unfitted classifiers.
    """

    def combine(self, scores: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        total = np.zeros_like(scores[0])
        for rank, member in zip(self.ranks_, scores, strict=True):
            total += rank(member)
        return total / len(scores)

    def _fit_combination(
        self, matrix: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]
    ) -> None:
        cuts = forward_cuts(labels, FITTED_SHARE, parts=1)
        self.ranks_ = [
            EmpiricalRank.of(forward_scores(member, matrix, labels, cuts))
            for _, member in self.members
        ]

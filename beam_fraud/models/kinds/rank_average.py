"""The mean of other kinds' ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from beam_fraud.models.estimators.rank_average import RankAverage as Ranked
from beam_fraud.models.kinds.ensemble import Ensemble
from beam_fraud.models.labelled import LabelledRows


@dataclass(frozen=True)
class RankAverage(Ensemble):
    """The mean of the members' ranks, for members whose scores mean different things.

    A score is a rank: of a hundred transactions about one has 0.99 or more. Each member is fitted
    twice, for its ranks are learned on rows that it has not seen.
    """

    name: ClassVar[str] = "rank_average"

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """The average of members that are still to be fitted."""
        return Ranked(self._unfitted(rows, seed))

"""What kinds made of other kinds share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import UsageError
from beam_fraud.models.estimators.member import Member
from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.kinds.forest import Forest
from beam_fraud.models.kinds.hist_gradient_boosting import HistGradientBoosting
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.predict import predict_scores


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
        """The ensemble with another member of this name."""
        return replace(self, members=tuple({**self.parts, name: part}.values()))

    def of(self, members: Sequence[ModelKind]) -> ModelKind:
        """The ensemble of these kinds.

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
        """The ensemble of the members with their chosen settings, and the scores of each."""
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

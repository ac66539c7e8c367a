"""ADASYN: made-up frauds, most of them where genuine rows are near."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from beam_fraud.errors import FraudError
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.resampling.base import OPTION, Resampler
from beam_fraud.models.resampling.smote import SYNTHETIC_EFFECT
from beam_fraud.models.resampling.synthetic import with_synthetic


@dataclass(frozen=True)
class Adasyn(Resampler):
    """Adaptive synthetic sampling (He et al. 2008).

    It has no variant for categories: a point between two of them is none.
    """

    name: ClassVar[str] = "adasyn"
    effect: ClassVar[str] = SYNTHETIC_EFFECT

    #: Frauds to a genuine row afterwards, about.
    frauds_per_genuine: float = 0.1
    #: Nearest rows whose labels say how hard a fraud is.
    neighbours: int = 5

    def resample(self, rows: LabelledRows, seed: int) -> LabelledRows:
        """The rows, then made-up frauds."""
        if rows.categorical:
            raise FraudError(
                f"{OPTION} {self}: there is nothing between two categories, and the schema has "
                "categorical features; use smote"
            )
        self.check(rows)
        sampler = self.library("over_sampling").ADASYN(
            sampling_strategy=self.frauds_per_genuine,
            n_neighbors=min(self.neighbours, max(int(rows.labels.sum()) - 1, 1)),
            random_state=seed,
        )
        return with_synthetic(rows, self.library("pipeline"), sampler, f"{OPTION} {self}")

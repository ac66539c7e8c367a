"""SMOTE, then rows of either class go that most of their neighbours contradict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from beam_fraud.errors import FraudError
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.resampling.base import OPTION, Resampler
from beam_fraud.models.resampling.neighbours import keep_by_neighbours
from beam_fraud.models.resampling.smote import SYNTHETIC_EFFECT, Smote


@dataclass(frozen=True)
class SmoteEnn(Resampler):
    """SMOTE and edited nearest neighbours (Batista et al. 2004).

    It looks at every pair of rows: the time grows with the square of their number.
    """

    name: ClassVar[str] = "smote-enn"
    effect: ClassVar[str] = SYNTHETIC_EFFECT
    compares_pairs: ClassVar[bool] = True

    #: Frauds to a genuine row after SMOTE, before rows are left out.
    frauds_per_genuine: float = 0.1
    #: Nearest rows that must be of a row's own class, all of them.
    neighbours: int = 3

    def resample(self, rows: LabelledRows, seed: int) -> LabelledRows:
        """The rows and made-up frauds that are left."""
        self.check(rows)
        # Not the library's own SMOTEENN: between its two steps codes have to become columns.
        smoted = Smote(self.frauds_per_genuine).resample(rows, seed)
        sampler = self.library("under_sampling").EditedNearestNeighbours(
            sampling_strategy="all", n_neighbors=self.neighbours
        )
        kept = keep_by_neighbours(smoted, self.library("pipeline"), sampler)
        if not 0 < kept.labels.sum() < len(kept.labels):
            raise FraudError(f"{OPTION} {self}: leaves rows of one class only; use smote")
        return kept

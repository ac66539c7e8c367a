"""Tomek links: genuine rows that are a fraud's nearest neighbour are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.resampling.base import Resampler
from beam_fraud.models.resampling.neighbours import keep_by_neighbours


@dataclass(frozen=True)
class Tomek(Resampler):
    """Of two rows that are each other's nearest, one of each class, the genuine one goes.

    Tomek 1976. It looks at every pair of rows: the time grows with the square of their number.
    """

    name: ClassVar[str] = "tomek"
    effect: ClassVar[str] = (
        "Genuine rows that look most like a fraud were left out: next to frauds, scores are "
        "a little larger than the probability of fraud."
    )

    def resample(self, rows: LabelledRows, seed: int) -> LabelledRows:
        """The rows without those genuine ones."""
        sampler = self.library("under_sampling").TomekLinks()
        return keep_by_neighbours(rows, self.library("pipeline"), [("sampler", sampler)])

"""SMOTE: made-up frauds on the lines between neighbouring ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.resampling.base import OPTION, Resampler
from beam_fraud.models.resampling.synthetic import with_synthetic

#: What the card says of all that make frauds up.
SYNTHETIC_EFFECT = (
    "Frauds were made up until there were more of them than in reality, so scores are larger "
    "than the probability of fraud and are not corrected."
)


@dataclass(frozen=True)
class Smote(Resampler):
    """Synthetic minority over-sampling (Chawla et al. 2002).

    With categorical features its variant SMOTE-NC: a made-up fraud has the category that most of
    its neighbours have.
    """

    name: ClassVar[str] = "smote"
    effect: ClassVar[str] = SYNTHETIC_EFFECT

    #: Frauds to a genuine row afterwards, real and made-up ones together.
    frauds_per_genuine: float = 0.1
    #: Nearest frauds that a fraud may be joined with.
    neighbours: int = 5

    def resample(self, rows: LabelledRows, seed: int) -> LabelledRows:
        """The rows, then made-up frauds."""
        self.check(rows)
        over = self.library("over_sampling")
        settings = {
            "sampling_strategy": self.frauds_per_genuine,
            "k_neighbors": min(self.neighbours, max(int(rows.labels.sum()) - 1, 1)),
            "random_state": seed,
        }
        if rows.categorical:
            first = rows.matrix.shape[1] - len(rows.categorical)
            last = range(first, rows.matrix.shape[1])
            sampler = over.SMOTENC(categorical_features=list(last), **settings)
        else:
            sampler = over.SMOTE(**settings)
        return with_synthetic(rows, self.library("pipeline"), sampler, f"{OPTION} {self}")

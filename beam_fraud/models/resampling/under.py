"""Random under-sampling: most genuine rows are left out, and the scores are put right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.resampling.base import Floats, Resampler
from beam_fraud.models.resampling.prior import PriorCorrected, corrected


@dataclass(frozen=True)
class Under(Resampler):
    """All frauds and a random part of the genuine rows."""

    name: ClassVar[str] = "under"
    effect: ClassVar[str] = (
        "Genuine rows were left out at random, which makes scores larger; each score is put back "
        "to what all rows would give (Dal Pozzolo et al. 2015). The order of rows is the same."
    )

    #: Frauds to a genuine row afterwards.
    frauds_per_genuine: float = 0.1

    def resample(self, rows: LabelledRows, seed: int) -> LabelledRows:
        """The rows that are left, in the order they were."""
        self.check(rows)
        sampler = self.library("under_sampling").RandomUnderSampler(
            sampling_strategy=self.frauds_per_genuine, random_state=seed
        )
        # It never looks at the values: absent ones may stay so.
        sampler.fit_resample(np.arange(len(rows.labels)).reshape(-1, 1), rows.labels)
        return rows.take(np.sort(sampler.sample_indices_))

    def fit(self, kind: ModelKind, rows: LabelledRows, seed: int) -> Any:
        """A classifier whose probabilities are those of all rows."""
        left = self.resample(rows, seed)
        return PriorCorrected(kind.fit(left, seed), _kept(left, rows))

    def validate(
        self,
        kind: ModelKind,
        train: LabelledRows,
        resampled: LabelledRows,
        valid: LabelledRows,
        seed: int,
    ) -> tuple[ModelKind, Floats]:
        """As every resampler does it, with corrected scores."""
        kind, scores = kind.validate(resampled, valid, seed)
        return kind, corrected(scores, _kept(resampled, train))


def _kept(left: LabelledRows, rows: LabelledRows) -> float:
    """The share of the genuine rows that is left."""
    return float(np.sum(left.labels == 0) / np.sum(rows.labels == 0))

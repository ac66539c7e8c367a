"""Random forest: hard to get wrong, and dear to predict with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sklearn.ensemble import RandomForestClassifier

from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.labelled import LabelledRows


@dataclass(frozen=True)
class Forest(ModelKind):
    """A random forest; category codes are numbers to it, and NaN goes to the better side."""

    name: ClassVar[str] = "forest"

    #: Trees, each of which costs time at every prediction.
    trees: int = 100
    #: Rows in a leaf at least: single rows make deeper and slower trees.
    min_samples_leaf: int = 2
    #: Share of the rows that a tree sees: fitting takes that share of the time.
    max_samples: float = 0.3
    #: Genuine rows that a fraud weighs as much as.
    fraud_weight: float = 10.0
    #: Cores to fit with, -1 for all; predictions are made on one.
    fit_jobs: int = -1

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """The forest.

        Without weights frauds lie in leaves that are mostly genuine; with weights that make both
        classes equal, scores are high for far more rows than are frauds.
        """
        return RandomForestClassifier(
            n_estimators=self.trees,
            min_samples_leaf=self.min_samples_leaf,
            max_samples=self.max_samples,
            class_weight={0: 1.0, 1: self.fraud_weight},
            n_jobs=self.fit_jobs,
            random_state=seed,
        )

"""Random forest: robust, and slow to predict with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds.base import Choice, ModelKind, Real, Space, Whole


@dataclass(frozen=True)
class Forest(ModelKind):
    """A random forest; category codes count as numbers, and NaN goes to the better side."""

    name: ClassVar[str] = "forest"
    #: No search space for the number of trees: more trees are always better.
    space: ClassVar[Space] = {
        "min_samples_leaf": Whole(1, 20, log=True),
        "max_samples": Real(0.1, 0.9),
        "max_features": Choice(("sqrt", "log2")),
        "fraud_weight": Real(1.0, 100.0, log=True),
    }
    #: Class of scikit-learn.
    ensemble: ClassVar[type] = RandomForestClassifier

    #: Trees; each costs time at every prediction.
    trees: int = 100
    #: Minimum rows in a leaf: single rows make deeper and slower trees.
    min_samples_leaf: int = 2
    #: Share of the rows per tree: fitting takes that share of the time.
    max_samples: float = 0.3
    #: Features considered per split: `sqrt` or `log2` of their number.
    max_features: str = "sqrt"
    #: Weight of a fraud in genuine rows.
    fraud_weight: float = 10.0
    #: Cores to fit with, -1 for all; predictions use one.
    fit_jobs: int = -1

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the forest.

        Without weights, frauds lie in mostly genuine leaves; with weights that balance the classes,
        far more rows than the frauds have high scores.
        """
        return self.ensemble(
            n_estimators=self.trees,
            min_samples_leaf=self.min_samples_leaf,
            max_samples=self.max_samples,
            max_features=self.max_features,
            bootstrap=True,
            class_weight={0: 1.0, 1: self.fraud_weight},
            n_jobs=self.fit_jobs,
            random_state=seed,
        )


@dataclass(frozen=True)
class ExtraTrees(Forest):
    """A forest of random thresholds: each split takes the best of its features' thresholds.

    Its trees are less alike than those of a random forest, so the average improves with more of
    them. They are deeper, and so slower to predict with.
    """

    name: ClassVar[str] = "extra_trees"
    ensemble: ClassVar[type] = ExtraTreesClassifier

    #: Trees; each costs time at every prediction.
    trees: int = 100
    #: Minimum rows in a leaf: single rows make deeper and slower trees.
    min_samples_leaf: int = 2
    #: Share of the rows per tree: fitting takes that share of the time.
    max_samples: float = 0.5

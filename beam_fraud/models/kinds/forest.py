"""Random forest: hard to get wrong, and dear to predict with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.space import Choice, Real, Space, Whole


@dataclass(frozen=True)
class Forest(ModelKind):
    """A random forest; category codes are numbers to it, and NaN goes to the better side."""

    name: ClassVar[str] = "forest"
    #: Where more trees are better at any price there is nothing to look for.
    space: ClassVar[Space] = {
        "min_samples_leaf": Whole(1, 20, log=True),
        "max_samples": Real(0.1, 0.9),
        "max_features": Choice(("sqrt", "log2")),
        "fraud_weight": Real(1.0, 100.0, log=True),
    }
    #: The class of scikit-learn's.
    ensemble: ClassVar[type] = RandomForestClassifier

    #: Trees, each of which costs time at every prediction.
    trees: int = 100
    #: Rows in a leaf at least: single rows make deeper and slower trees.
    min_samples_leaf: int = 2
    #: Share of the rows that a tree sees: fitting takes that share of the time.
    max_samples: float = 0.3
    #: Features that a split may choose from: `sqrt` or `log2` of their number.
    max_features: str = "sqrt"
    #: Genuine rows that a fraud weighs as much as.
    fraud_weight: float = 10.0
    #: Cores to fit with, -1 for all; predictions are made on one.
    fit_jobs: int = -1

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the forest.

        Without weights frauds lie in leaves that are mostly genuine; with weights that make both
        classes equal, scores are high for far more rows than are frauds.
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
    """A forest that splits at random thresholds, of which it takes the best feature's.

    Its trees have less in common than those of a random forest, so that an average of more of them
    goes on getting better. They are deeper, and so slower to predict with.
    """

    name: ClassVar[str] = "extra_trees"
    ensemble: ClassVar[type] = ExtraTreesClassifier

    #: Trees, each of which costs time at every prediction.
    trees: int = 100
    #: Rows in a leaf at least: single rows make deeper and slower trees.
    min_samples_leaf: int = 2
    #: Share of the rows that a tree sees: fitting takes that share of the time.
    max_samples: float = 0.5

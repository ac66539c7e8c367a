"""Extremely randomised trees: a forest that draws its thresholds as well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sklearn.ensemble import ExtraTreesClassifier

from beam_fraud.models.kinds.forest import Forest


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

"""Logistic regression: the baseline, and the model whose weights one can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.kinds.prepare import scaled_columns
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.space import Real, Space, Whole


@dataclass(frozen=True)
class Logistic(ModelKind):
    """Medians for absent numbers, scaling, a column for each category, then the regression."""

    name: ClassVar[str] = "logistic"
    space: ClassVar[Space] = {
        "c": Real(1e-4, 100.0, log=True),
        "max_categories": Whole(10, 200, log=True),
    }

    #: Inverse strength of the L2 penalty.
    c: float = 1.0
    #: Genuine rows that a fraud weighs as much as; 0: all frauds as much as all genuine rows.
    fraud_weight: float = 0.0
    #: Columns that a categorical feature has at most; rarer categories share one.
    max_categories: int = 100
    #: Iterations of the solver at most.
    max_iter: int = 1000

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the pipeline, imputation and scaling within it.

        Frauds weigh as much as genuine rows, or so few of them hardly move the regression: on the
        ULB transactions that is worth 0.1 of average precision. It makes scores large, too. In an
        average with boosting the plain regression does better: it agrees less with the trees.
        """
        weight = {0: 1.0, 1: self.fraud_weight} if self.fraud_weight else "balanced"
        regression = LogisticRegression(
            C=self.c, class_weight=weight, max_iter=self.max_iter, random_state=seed
        )
        return make_pipeline(scaled_columns(rows, self.max_categories), regression)

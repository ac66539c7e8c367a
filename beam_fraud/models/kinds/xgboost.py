"""XGBoost: gradient boosting with second-order steps; extra `boosting`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from beam_fraud.errors import extra_module
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds.base import Real, Space, Whole
from beam_fraud.models.kinds.boosting import Boosting, Floats


@dataclass(frozen=True)
class XGBoost(Boosting):
    """Shallow trees on histograms; categories are split as such, and NaN goes to the better side.

    A leaf needs a sum of p (1 - p) of at least `min_child_weight`: with one fraud in 500 rows that
    is some hundred genuine rows, so that no leaf of a few takes a huge step. Frauds have no extra
    weight: a tenfold weight costs 0.004 of average precision on later ULB rows and 0.007 on the
    handbook's, and scores would no longer be shares of frauds.
    """

    name: ClassVar[str] = "xgboost"
    needs: ClassVar[tuple[str, ...]] = ("xgboost",)
    space: ClassVar[Space] = {
        "trees": Whole(50, 400, log=True),
        "depth": Whole(2, 8),
        "learning_rate": Real(0.02, 0.3, log=True),
        "subsample": Real(0.4, 1.0),
        "max_features": Real(0.2, 1.0),
        "l2": Real(0.1, 100.0, log=True),
        "min_child_weight": Real(0.01, 10.0, log=True),
        "fraud_weight": Real(1.0, 100.0, log=True),
    }

    #: Trees; the maximum if validation rows choose.
    trees: int = 200
    #: Maximum depth: deeper trees make predictions slower.
    depth: int = 4
    #: Learning rate: share of each tree's step.
    learning_rate: float = 0.1
    #: Share of the rows per tree.
    subsample: float = 0.8
    #: Share of the features per tree.
    max_features: float = 0.5
    #: L2 penalty on the leaves.
    l2: float = 10.0
    #: Minimum sum of p (1 - p) over the rows of a leaf, p being their current scores.
    min_child_weight: float = 1.0
    #: Weight of a fraud in genuine rows.
    fraud_weight: float = 1.0
    #: Threads to fit with, 0 for OpenMP's default; predictions use one.
    fit_jobs: int = 0

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the boosting.

        Raises:
          FraudError: xgboost is not installed.
        """
        categorical = set(rows.categorical)
        types = ["c" if i in categorical else "q" for i in range(rows.matrix.shape[1])]
        return extra_module("xgboost", f"--model {self.name}").XGBClassifier(
            n_estimators=self.trees,
            max_depth=self.depth,
            learning_rate=self.learning_rate,
            subsample=self.subsample,
            colsample_bytree=self.max_features,
            reg_lambda=self.l2,
            min_child_weight=self.min_child_weight,
            scale_pos_weight=self.fraud_weight,
            tree_method="hist",
            enable_categorical=True,
            feature_types=types,
            n_jobs=self.fit_jobs,
            random_state=seed,
        )

    def stages(self, model: Any, matrix: Floats) -> Iterator[Floats]:
        """Yield log-odds up to a constant; see `Boosting.stages`."""
        booster = model.get_booster()
        total = np.zeros(len(matrix))
        for tree in range(booster.num_boosted_rounds()):
            total += booster.inplace_predict(
                matrix, iteration_range=(tree, tree + 1), predict_type="margin"
            )
            yield total

    def scores_of_first(self, trees: int, model: Any, matrix: Floats) -> Floats:
        probabilities = model.predict_proba(matrix, iteration_range=(0, trees))
        return np.ascontiguousarray(probabilities[:, 1], dtype=np.float64)

"""LightGBM: gradient boosting that grows the leaf of the highest gain; extra `boosting`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from beam_fraud.errors import extra_module
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds.base import Real, Space, Whole, refused_settings
from beam_fraud.models.kinds.boosting import Boosting, Floats
from beam_fraud.models.predict import set_single_threaded


@dataclass(frozen=True)
class LightGBM(Boosting):
    """Small trees on histograms; categories are split as such, and NaN goes to the better side.

    A category with few rows is not taken for fraud by chance: LightGBM smooths such categories
    (`cat_smooth`) and leaves the rarest out. Frauds have no extra weight: a tenfold weight costs
    0.04 of average precision on later ULB rows and 0.01 on the handbook's, because LightGBM has no
    penalty on a leaf's sum of p (1 - p), and a leaf of some frauds then takes a huge step.
    """

    name: ClassVar[str] = "lightgbm"
    needs: ClassVar[tuple[str, ...]] = ("lightgbm",)
    space: ClassVar[Space] = {
        "trees": Whole(50, 400, log=True),
        "leaves": Whole(4, 64, log=True),
        "learning_rate": Real(0.02, 0.3, log=True),
        "subsample": Real(0.4, 1.0),
        "max_features": Real(0.2, 1.0),
        "l2": Real(0.1, 100.0, log=True),
        "min_samples_leaf": Whole(5, 200, log=True),
        "fraud_weight": Real(1.0, 100.0, log=True),
    }

    #: Trees; the maximum if validation rows choose.
    trees: int = 150
    #: Leaves per tree: more leaves make predictions slower.
    leaves: int = 8
    #: Learning rate: share of each tree's step.
    learning_rate: float = 0.1
    #: Share of the rows per tree.
    subsample: float = 0.8
    #: Share of the features per tree.
    max_features: float = 0.5
    #: L2 penalty on the leaves.
    l2: float = 10.0
    #: Minimum rows in a leaf.
    min_samples_leaf: int = 20
    #: Weight of a fraud in genuine rows.
    fraud_weight: float = 1.0
    #: Threads to fit with, 0 for OpenMP's default; predictions use one.
    fit_jobs: int = 0

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the boosting; `fit` passes the categorical columns.

        Raises:
          FraudError: lightgbm is not installed.
        """
        return extra_module("lightgbm", f"--model {self.name}").LGBMClassifier(
            n_estimators=self.trees,
            num_leaves=self.leaves,
            learning_rate=self.learning_rate,
            subsample=self.subsample,
            subsample_freq=1,
            colsample_bytree=self.max_features,
            reg_lambda=self.l2,
            min_child_samples=self.min_samples_leaf,
            scale_pos_weight=self.fraud_weight,
            n_jobs=self.fit_jobs,
            random_state=seed,
            # Otherwise LightGBM times two summation orders and takes the faster, and sums differ
            # between runs.
            deterministic=True,
            force_col_wise=True,
            verbosity=-1,
        )

    def fit(self, rows: LabelledRows, seed: int) -> Any:
        """Return a classifier fitted on rows of both classes, set to predict on one thread."""
        model = self.estimator(rows, seed)
        with refused_settings(self.name):
            model.fit(rows.matrix, rows.labels, categorical_feature=list(rows.categorical))
        set_single_threaded(model)
        return model

    def stages(self, model: Any, matrix: Floats) -> Iterator[Floats]:
        """Yield log-odds; see `Boosting.stages`."""
        booster = model.booster_
        total = np.zeros(len(matrix))
        for tree in range(booster.current_iteration()):
            total += booster.predict(
                matrix, start_iteration=tree, num_iteration=1, raw_score=True, num_threads=1
            )
            yield total

    def scores_of_first(self, trees: int, model: Any, matrix: Floats) -> Floats:
        probabilities = model.predict_proba(matrix, num_iteration=trees)
        return np.ascontiguousarray(probabilities[:, 1], dtype=np.float64)

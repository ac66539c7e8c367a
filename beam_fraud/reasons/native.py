"""Exact contributions that XGBoost and LightGBM compute themselves, in log-odds."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from beam_fraud.reasons.explainer import Floats, Unit


class XGBoostExplainer:
    """Path-dependent Shapley values of an `XGBClassifier`, in single precision."""

    approximate = False
    unit: Unit = "log-odds"

    def __init__(self, model: Any) -> None:
        """Take a fitted classifier of two classes."""
        self._booster = model.get_booster()
        # A model that was fitted on a data frame takes the same columns without their names.
        self._names = self._booster.feature_names
        self._missing = model.missing
        best = getattr(model, "best_iteration", None) if model.early_stopping_rounds else None
        self._trees = (0, 0) if best is None else (0, best + 1)

    def contributions(self, block: Floats) -> Floats:
        """See `Explainer`."""
        matrix = importlib.import_module("xgboost").DMatrix(
            block, missing=self._missing, nthread=1, feature_names=self._names
        )
        found = self._booster.predict(matrix, pred_contribs=True, iteration_range=self._trees)
        # The last column is the mean in training.
        return np.asarray(found[:, :-1], dtype=np.float64)


class LightGBMExplainer:
    """Path-dependent Shapley values of an `LGBMClassifier`."""

    approximate = False
    unit: Unit = "log-odds"

    def __init__(self, model: Any) -> None:
        """Take a fitted classifier of two classes."""
        self._booster = model.booster_

    def contributions(self, block: Floats) -> Floats:
        """See `Explainer`."""
        found = self._booster.predict(block, pred_contrib=True, num_threads=1)
        return np.asarray(found, dtype=np.float64)[:, :-1]

"""Choose the explainer of a model.

XGBoost and LightGBM compute exact contributions themselves.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

import numpy as np
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier

from beam_fraud.decisions.reasons.explainer import (
    Explainer,
    Floats,
    UnexplainableError,
    Unit,
    keeps_columns,
)
from beam_fraud.decisions.reasons.forest import ForestExplainer
from beam_fraud.decisions.reasons.hist_gradient_boosting import HistGradientBoostingExplainer
from beam_fraud.decisions.reasons.linear import LinearExplainer
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.estimators.imported import ImportedClassifier, LightGBMBooster
from beam_fraud.models.reference import Reference, usual_values
from beam_fraud.models.resampling.under import PriorCorrected
from beam_fraud.models.small_blocks.columns import columns_of
from beam_fraud.models.small_blocks.predictor import Predictor, probing_rows


class XGBoostExplainer:
    """Path-dependent Shapley values of an `XGBClassifier`, in single precision."""

    approximate = False
    unit: Unit = "log-odds"

    def __init__(self, model: Any) -> None:
        self._booster = model.get_booster()
        # A model fitted on a data frame accepts the same columns without names.
        self._names = self._booster.feature_names
        self._missing = model.missing
        best = getattr(model, "best_iteration", None)
        self._trees = (0, 0) if best is None else (0, best + 1)

    def contributions(self, block: Floats) -> Floats:
        matrix = importlib.import_module("xgboost").DMatrix(
            block, missing=self._missing, nthread=1, feature_names=self._names
        )
        values = self._booster.predict(matrix, pred_contribs=True, iteration_range=self._trees)
        # The last column is the training mean.
        return np.asarray(values[:, :-1], dtype=np.float64)


class LightGBMExplainer:
    """Path-dependent Shapley values of an `LGBMClassifier`, or of its booster."""

    approximate = False
    unit: Unit = "log-odds"

    def __init__(self, model: Any) -> None:
        self._booster = model.booster_

    def contributions(self, block: Floats) -> Floats:
        values = self._booster.predict(block, pred_contrib=True, num_threads=1)
        return np.asarray(values, dtype=np.float64)[:, :-1]


#: Maximum of rows per prediction, each a row with one feature changed.
_TOGETHER = 50_000


class OcclusionExplainer:
    """Occlusion: the change of the score if a feature has its usual value.

    Approximate: the joint effect of two features counts twice or not at all.
    """

    approximate = True
    unit: Unit = "probability"

    def __init__(self, predict: Predictor, typical: Floats) -> None:
        """Store the usual values.

        Args:
          predict: the scores of the model.
          typical: float64[features].
        """
        self._predict = predict
        self._usual = typical

    def contributions(self, block: Floats) -> Floats:
        """Return contributions; needs one prediction per feature and row, and one more per row."""
        features = len(self._usual)
        step = max(1, _TOGETHER // (features + 1))
        added = np.empty(block.shape)
        for first in range(0, len(block), step):
            rows = block[first : first + step]
            # Per row: the original, then a copy with each feature changed.
            changed = np.repeat(rows[:, None, :], features + 1, axis=1)
            each = np.arange(features)
            changed[:, each + 1, each] = self._usual
            scores = self._predict(changed.reshape(-1, features))
            scores = scores.reshape(len(rows), features + 1)
            added[first : first + step] = scores[:, :1] - scores[:, 1:]
        return added


_LOG = logging.getLogger(__name__)
_FORESTS = (RandomForestClassifier, ExtraTreesClassifier, DecisionTreeClassifier)


def explainer_of(model: Any, features: FeatureSet, reference: Reference) -> Explainer:
    """Return the best available explainer of a model.

    Exact: logistic regressions, and pipelines of scalers, imputers and one-hot encoders that end in
    one; scikit-learn's histogram gradient boosting; XGBoost and LightGBM. Forests and trees: path
    contributions. All others, including calibrated ones: occlusion.

    Args:
      model: a fitted classifier of two classes.
      features: its features.
      reference: its reference distributions. Without one of a feature, occlusion and unscaled
        regressions compare with 0.
    """
    if isinstance(model, ImportedClassifier) and model.plain is not None:
        model = model.plain
    # The correction multiplies all odds by a constant: contributions stay the same.
    model = model.model if isinstance(model, PriorCorrected) else model
    typical = np.nan_to_num(usual_values(reference, features), nan=0.0)
    try:
        if isinstance(_last(model), LogisticRegression):
            return LinearExplainer(model, typical, reference, features)
        return _of_trees(model)
    except UnexplainableError as error:
        _LOG.info("reasons are approximate, by occlusion: %s", error)
        predict = Predictor.of(model, probing_rows(reference, features))
        return OcclusionExplainer(predict, typical)


def _of_trees(model: Any) -> Explainer:
    if isinstance(model, Pipeline):
        if not all(keeps_columns(step) for _, step in model.steps[:-1]):
            raise UnexplainableError("a step before the model may mix columns")
        last = _of_trees(model.steps[-1][1])
        return _Preceded(model[:-1], last) if len(model.steps) > 1 else last
    if isinstance(model, HistGradientBoostingClassifier):
        return HistGradientBoostingExplainer(model)
    if isinstance(model, _FORESTS):
        return ForestExplainer(model)
    # By name, because they are optional and slow to import.
    for kind in type(model).__mro__:
        if kind.__module__.startswith("xgboost.") and kind.__name__ == "XGBClassifier":
            return XGBoostExplainer(model)
        if kind.__module__.startswith("lightgbm.") and kind.__name__ == "LGBMClassifier":
            return LightGBMExplainer(model)
    if isinstance(model, LightGBMBooster):
        return LightGBMExplainer(model)
    raise UnexplainableError(f"no explainer knows {type(model).__name__}")


def _last(model: Any) -> Any:
    return model.steps[-1][1] if isinstance(model, Pipeline) else model


class _Preceded:
    """An explainer behind steps that do not mix columns."""

    def __init__(self, steps: Pipeline, explainer: Explainer) -> None:
        self._prepare = columns_of(steps)
        self._explainer = explainer
        self.approximate, self.unit = explainer.approximate, explainer.unit

    def contributions(self, block: Floats) -> Floats:
        prepared = np.asarray(self._prepare(block), dtype=np.float64)
        return self._explainer.contributions(np.ascontiguousarray(prepared))

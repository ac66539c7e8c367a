"""Which explainer serves which model."""

from __future__ import annotations

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

from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.reference import Reference
from beam_fraud.models.resampling.prior import PriorCorrected
from beam_fraud.reasons.column_steps import keeps_columns
from beam_fraud.reasons.explainer import Explainer, Floats, UnexplainableError
from beam_fraud.reasons.forest import ForestExplainer
from beam_fraud.reasons.hist_gradient_boosting import HistGradientBoostingExplainer
from beam_fraud.reasons.linear import LinearExplainer
from beam_fraud.reasons.native import LightGBMExplainer, XGBoostExplainer
from beam_fraud.reasons.occlusion import OcclusionExplainer
from beam_fraud.reasons.usual import usual_values

_LOG = logging.getLogger(__name__)
_FORESTS = (RandomForestClassifier, ExtraTreesClassifier, DecisionTreeClassifier)


def explainer_of(model: Any, features: FeatureSet, reference: Reference) -> Explainer:
    """The best explainer that there is for a model.

    Exact: logistic regressions, and pipelines of scalers, imputers and one-hot encoders that end
    in one; scikit-learn's histogram gradient boosting; XGBoost and LightGBM. Forests and trees:
    path contributions. All others, calibrated ones among them: occlusion.

    Args:
      model: a fitted classifier of two classes.
      features: what it takes.
      reference: the distributions that it was trained on. Where it knows nothing of a feature,
        occlusion and unscaled regressions compare with 0.
    """
    # Correcting multiplies the odds of every row alike: nothing that a feature adds changes.
    model = model.model if isinstance(model, PriorCorrected) else model
    usual = np.nan_to_num(usual_values(reference, features), nan=0.0)
    try:
        if isinstance(_last(model), LogisticRegression):
            return LinearExplainer(model, usual, reference, features)
        return _of_trees(model)
    except UnexplainableError as error:
        _LOG.info("reasons are approximate, by occlusion: %s", error)
        return OcclusionExplainer(model, usual)


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
    # By name, for they are optional and take long to import.
    for kind in type(model).__mro__:
        if kind.__module__.startswith("xgboost.") and kind.__name__ == "XGBClassifier":
            return XGBoostExplainer(model)
        if kind.__module__.startswith("lightgbm.") and kind.__name__ == "LGBMClassifier":
            return LightGBMExplainer(model)
    raise UnexplainableError(f"no explainer knows {type(model).__name__}")


def _last(model: Any) -> Any:
    return model.steps[-1][1] if isinstance(model, Pipeline) else model


class _Preceded:
    """An explainer behind steps that make one column of each."""

    def __init__(self, steps: Pipeline, explainer: Explainer) -> None:
        self._steps = steps
        self._explainer = explainer
        self.approximate, self.unit = explainer.approximate, explainer.unit

    def contributions(self, block: Floats) -> Floats:
        """See `Explainer`."""
        prepared = np.asarray(self._steps.transform(block), dtype=np.float64)
        return self._explainer.contributions(np.ascontiguousarray(prepared))

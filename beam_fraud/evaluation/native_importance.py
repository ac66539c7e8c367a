"""What a model itself says its features are worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from beam_fraud.evaluation.rows import Floats
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.reference import Reference
from beam_fraud.reasons.column_steps import keeps_columns
from beam_fraud.reasons.registry import explainer_of


@dataclass(frozen=True)
class NativeImportance:
    """A number for each feature, the larger the more it is worth."""

    #: What the numbers are.
    what: str
    #: Features and their numbers, the largest first.
    features: tuple[tuple[str, float], ...]


def native_importance(
    model: Any, features: FeatureSet, reference: Reference, matrix: Floats
) -> NativeImportance | None:
    """The importances that a model has of its training, or those that its weights make.

    Args:
      model: a fitted classifier, or a pipeline that ends in one.
      features: what it takes.
      reference: the distributions that it was trained on.
      matrix: float64[m, features], rows to weigh the features of a regression on.

    Returns:
      None for models that have neither, such as scikit-learn's histogram gradient boosting, and
      where steps before the model mix columns.
    """
    steps = [step for _, step in model.steps] if isinstance(model, Pipeline) else [model]
    last = steps[-1]
    if isinstance(last, LogisticRegression):
        explainer = explainer_of(model, features, reference)
        if explainer.approximate:
            return None
        moved = np.abs(explainer.contributions(matrix)).mean(axis=0)
        return _sorted("mean move of the log-odds, either way", features, moved)
    if not all(keeps_columns(step) for step in steps[:-1]):
        return None
    # LightGBM and XGBoost call theirs the same as scikit-learn's forests do.
    values = np.asarray(getattr(last, "feature_importances_", ()), dtype=np.float64)
    if values.shape != (len(features.names),) or not np.isfinite(values).all():
        return None
    return _sorted("the model's feature_importances_, as shares", features, _shares(values))


def _shares(values: Floats) -> Floats:
    total = values.sum()
    return values / total if total > 0 else values


def _sorted(what: str, features: FeatureSet, values: Floats) -> NativeImportance:
    pairs = zip(features.names, values.tolist(), strict=True)
    return NativeImportance(what, tuple(sorted(pairs, key=lambda pair: -pair[1])))

"""What a model itself says its features are worth."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from beam_fraud.models.estimators.calibrated import Calibrated
from beam_fraud.models.resampling.prior import PriorCorrected


@dataclass(frozen=True)
class Importance:
    """A number for each feature, the larger the more it is worth."""

    #: What the numbers are.
    what: str
    #: In the order of the features, not negative.
    values: tuple[float, ...]


def importance_of(model: Any, features: int) -> Importance | None:
    """The importances that come with a model for nothing; None if it has none.

    Args:
      model: a fitted classifier.
      features: how many it takes.
    """
    while isinstance(model, Calibrated | PriorCorrected):
        model = model.model
    if isinstance(model, Pipeline) and isinstance(model.steps[-1][1], LogisticRegression):
        return _of_weights(model, features)
    values = np.asarray(getattr(model, "feature_importances_", ()), dtype=np.float64)
    if values.shape != (features,) or not np.isfinite(values).all() or values.sum() <= 0:
        return None
    shares = values / values.sum()
    return Importance("shares of the splits' gains in training", tuple(shares.tolist()))


def _of_weights(model: Pipeline, features: int) -> Importance | None:
    names = model[:-1].get_feature_names_out()
    found = [re.search(r"__x(\d+)", name) for name in names]
    if not all(found):
        return None
    values = np.zeros(features)
    for match, weight in zip(found, np.abs(model.steps[-1][1].coef_[0]), strict=True):
        position = int(match[1]) if match else 0
        values[position] = max(values[position], weight)
    what = "largest weight, of the scaled number or of one of the categories, either way"
    return Importance(what, tuple(values.tolist()))

"""The section of a model card on features."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.card.markdown import code, plain, table
from beam_fraud.models.estimators.calibrated import Calibrated
from beam_fraud.models.resampling.prior import PriorCorrected
from beam_fraud.schema.velocity import Velocity


@dataclass(frozen=True)
class Importance:
    """Importances of features."""

    #: Name of the measure.
    what: str
    #: Importances in the order of the features, not negative; larger is more important.
    values: tuple[float, ...]


def importance_of(model: Any, features: int) -> Importance | None:
    """Return the importances that come with a model for nothing; None if it has none.

    Args:
      model: a fitted classifier.
      features: number of its features.
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


_KEYS = {"account_id": "account", "merchant_id": "merchant"}
_AGGREGATES = {
    "count": "number of transactions",
    "sum": "sum of the amounts",
    "mean": "mean amount",
    "max": "largest amount",
    "min": "smallest amount",
    "std": "standard deviation of the amounts",
    "ratio": "this amount divided by the mean amount",
    "seconds_since_last": "seconds since the last transaction",
    "distinct_merchant": "number of different merchants",
    "risk": "share of frauds",
}


def features_section(features: FeatureSet, importance: Importance | None) -> str:
    """Return a row for each feature, in the order that the model takes them.

    Args:
      features: the model's features.
      importance: the model's own importances, or None.
    """
    meanings = {
        definition.name(aggregate, window): _velocity(definition, aggregate, window)
        for definition in features.velocity
        for window in definition.windows
        for aggregate in definition.aggregates
    }
    head = ["feature", "what it is"]
    rows = [[code(name), meanings.get(name) or _plain(name, features)] for name in features.names]
    note = "The model has no importances of its own; `beam-fraud evaluate` measures them."
    if importance is not None:
        head.append("importance")
        for row, worth in zip(rows, importance.values, strict=True):
            row.append(f"{worth:.3f}")
        note = f"Importance: {importance.what}."
    return f"{len(rows)}, in this order. {note}\n\n{table(head, rows)}"


def _velocity(definition: Velocity, aggregate: str, window: str) -> str:
    key = " and ".join(plain(_KEYS.get(column, column)) for column in definition.key)
    when = f"the last {window}"
    if definition.delay_microseconds:
        when = f"the {window} that ended {definition.delay} ago"
    return f"{_AGGREGATES[aggregate]} of the {key} in {when}"


def _plain(name: str, features: FeatureSet) -> str:
    if name == "amount":
        return "amount of the transaction"
    if name == "is_weekend":
        return f"1 on a Saturday or Sunday ({plain(features.schema.timezone)}), else 0"
    if name == "is_night":
        return f"1 from midnight to 7 o'clock ({plain(features.schema.timezone)}), else 0"
    if name in features.categories:
        return f"column of the data; one of {len(features.categories[name]):,} known categories"
    return "column of the data; a number"

"""The features of a model in plain words."""

from __future__ import annotations

from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.card.importance import Importance
from beam_fraud.models.card.markdown import code, plain, table
from beam_fraud.velocity import Velocity

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
    """A row for each feature, in the order that the model takes them.

    Args:
      features: what the model takes.
      importance: what the model says each is worth, if it does.
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

"""The names that conditions may use."""

from __future__ import annotations

from collections.abc import Iterable

from beam_fraud.decisions.rules.condition import Kind
from beam_fraud.schema.schema import Schema


def vocabulary(schema: Schema, velocity: Iterable[str] = (), *, scored: bool) -> dict[str, Kind]:
    """Return name to kind of everything known about a transaction before the decision.

    Args:
      schema: the schema of the transactions.
      velocity: names of velocity features beside the schema's own, such as a model's.
      scored: whether a model provides a `score`.

    Example:
      >>> from beam_fraud.schema.presets import HANDBOOK
      >>> list(vocabulary(HANDBOOK, scored=True))[:6]
      ['amount', 'score', 'is_weekend', 'is_night', 'transaction_id', 'account_id']
    """
    names: dict[str, Kind] = {"amount": "number"}
    if scored:
        names["score"] = "number"
    if schema.calendar:
        names |= {"is_weekend": "number", "is_night": "number"}
    names["transaction_id"] = "text"
    for role in ("account_id", "merchant_id", "currency"):
        if schema.role(role) is not None:
            names[role] = "text"
    for feature in schema.features:
        names[feature.column] = "number" if feature.kind == "numeric" else "text"
    names |= dict.fromkeys(schema.key_columns, "text")
    for definition in schema.velocity:
        names |= dict.fromkeys(definition.names, "number")
    return {**names, **dict.fromkeys(velocity, "number")}

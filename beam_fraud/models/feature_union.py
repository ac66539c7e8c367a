"""The columns and velocity features that several models need, each once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.velocity import Velocity


def with_columns_of(
    schema: Schema, bundle: Bundle, missing: Literal["allow", "lenient"] = "allow"
) -> Schema:
    """Return a schema that also reads the columns that a bundle's features need.

    Args:
      schema: of the transactions.
      bundle: of another model.
      missing: treatment of what the new columns lack (`FeatureColumn.missing`).

    Raises:
      FraudError: the schema reads such a column as another kind.
    """
    own = {feature.column: feature for feature in schema.features}
    new = []
    for feature in bundle.schema.features:
        if feature.column not in bundle.manifest.features:
            continue
        known = own.get(feature.column)
        if known is None:
            new.append(replace(feature, missing=missing))
        elif known.kind != feature.kind:
            raise FraudError(
                f"{bundle.path}: reads the column {feature.column!r} as {feature.kind}, and "
                f"another model as {known.kind}",
                Code.BUNDLE_SCHEMA,
            )
    calendar = schema.calendar or bundle.schema.calendar
    return replace(schema, features=(*schema.features, *new), calendar=calendar)


def velocity_union(sets: Iterable[tuple[str, FeatureSet]]) -> tuple[Velocity, ...]:
    """Return definitions of all velocity features of several models, each once.

    Args:
      sets: place of a bundle, and its features.

    Raises:
      FraudError: two models define a feature of the same name in different ways.
    """
    union: list[Velocity] = []
    known: dict[str, Velocity] = {}
    for path, features in sets:
        for definition in features.velocity:
            for name in definition.names:
                before = known.get(name)
                if before is not None and not _same(before, definition, name):
                    raise FraudError(
                        f"{path}: its feature {name!r} is defined in another way than that of "
                        "another model; score by one model at a time",
                        Code.BUNDLE_SCHEMA,
                    )
            union += definition.only([name for name in definition.names if name not in known])
            known |= dict.fromkeys(definition.names, definition)
    return tuple(union)


def _same(one: Velocity, other: Velocity, name: str) -> bool:
    """Return whether two definitions define a feature of the same name in the same way."""
    if name.endswith("_seconds_since_last"):
        return one.horizon == other.horizon and one.delay == other.delay
    return bool(one.by_currency) == bool(other.by_currency)

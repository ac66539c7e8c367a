"""Sets of velocity definitions that are computed side by side, and the columns of each.

The features of the set that a stream or a server began with are columns by their names. Those of
any other set are columns whose names say of which set they are, until a model takes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping

from beam_fraud.features.velocity.columns import by_key
from beam_fraud.schema.velocity import Velocity

#: Start of the names of columns of further sets; columns of users cannot start like it.
_FURTHER = "@windows "


def exact_features(definitions: Iterable[Velocity]) -> dict[str, str]:
    """Return the name of each feature, and a text that differs where its values can differ."""
    return {name: exact for spec in definitions for name, exact in spec.exact.items()}


def covers(held: Iterable[Velocity], wanted: Iterable[Velocity]) -> bool:
    """Return whether some definitions have every feature of others.

    Example:
      >>> held = [Velocity(("account_id",), ("1h", "1d"), ("count", "mean"))]
      >>> covers(held, [Velocity(("account_id",), ("1d",), ("mean",))])
      True
      >>> covers(held, [Velocity(("account_id",), ("2d",), ("mean",))])
      False
    """
    return exact_features(wanted).items() <= exact_features(held).items()


def further_columns(definitions: Collection[Velocity]) -> dict[str, str]:
    """Return the name of each feature of a further set, and its column.

    Args:
      definitions: of one key.
    """
    form = json.dumps([spec.to_dict() for spec in definitions])
    number = hashlib.sha256(form.encode()).hexdigest()[:8]
    exact = exact_features(definitions)
    return {name: f"{_FURTHER}{number} {text}" for name, text in exact.items()}


def is_further(column: str) -> bool:
    """Return whether a column is a feature of a further set."""
    return column.startswith(_FURTHER)


def sources(
    columns: Collection[str], wanted: Iterable[Velocity], first: Iterable[Velocity]
) -> Mapping[str, str] | None:
    """Return where the features of a model are.

    The features of a key are all of one set: its windows are filled together.

    Args:
      columns: names of the columns of a batch.
      wanted: the model's definitions.
      first: definitions whose features are columns by their names.

    Returns:
      Name of each feature to its column; None if no set of the batch has them.
    """
    of_first = exact_features(first)
    further: dict[str, dict[str, str]] = {}
    for column in columns:
        if is_further(column):
            number, _, exact = column.removeprefix(_FURTHER).partition(" ")
            further.setdefault(number, {})[exact] = column
    found: dict[str, str] = {}
    for definitions in by_key(wanted).values():
        features = exact_features(definitions)
        if features.items() <= of_first.items() and all(name in columns for name in features):
            found |= {name: name for name in features}
            continue
        for places in further.values():
            if all(exact in places for exact in features.values()):
                found |= {name: places[exact] for name, exact in features.items()}
                break
        else:
            return None
    return found

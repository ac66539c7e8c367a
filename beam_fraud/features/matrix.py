"""The block of numbers that a model sees: one row a transaction, one column a feature."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.features.calendar import is_night, is_weekend
from beam_fraud.features.categories import code_categories
from beam_fraud.schema import Schema
from beam_fraud.velocity import Velocity


@dataclass(frozen=True)
class FeatureSet:
    """Which features a model takes, and what is needed to compute them.

    Example:
      >>> from beam_fraud.presets import HANDBOOK
      >>> FeatureSet(HANDBOOK).names[:4]
      ('amount', 'is_weekend', 'is_night', 'account_count_1d')
    """

    #: The schema of the transactions.
    schema: Schema
    #: Categorical column to its known values, in code order.
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: The features in the order that the model takes them; all of the schema's if empty.
    order: tuple[str, ...] = ()
    #: Velocity features that are computed beside those, for rules; not in the matrix.
    also: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in the order of the matrix's columns."""
        if self.order:
            return self.order
        calendar = ("is_weekend", "is_night") if self.schema.calendar else ()
        velocity = (name for definition in self.schema.velocity for name in definition.names)
        return (*(f.column for f in self.schema.features), "amount", *calendar, *velocity)

    @property
    def velocity(self) -> tuple[Velocity, ...]:
        """The definitions that any of the features comes from, or any of those beside them."""
        names = {*self.names, *self.also}
        return tuple(v for v in self.schema.velocity if not names.isdisjoint(v.names))

    @property
    def categorical(self) -> tuple[int, ...]:
        """Positions in `names` of the categorical features."""
        kinds = {f.column: f.kind for f in self.schema.features}
        return tuple(i for i, n in enumerate(self.names) if kinds.get(n) == "categorical")


def feature_matrix(
    transactions: pa.RecordBatch | pa.Table, features: FeatureSet
) -> npt.NDArray[np.float64]:
    """Compute the features of validated transactions.

    Args:
      transactions: n rows as `Schema.transactions` describes them, with velocity features
        (`velocity.columns.with_velocity`).
      features: which features, in which order.

    Returns:
      float64[n, len(features.names)], C-contiguous; NaN where a value is absent.

    Raises:
      KeyError: a feature that the schema does not have.
    """
    matrix = np.empty((transactions.num_rows, len(features.names)), dtype=np.float64)
    for position, name in enumerate(features.names):
        values = None if name not in transactions.schema.names else transactions.column(name)
        if values is not None and pa.types.is_string(values.type):
            matrix[:, position] = code_categories(values, features.categories.get(name, ()))
        else:
            matrix[:, position] = numeric_feature(transactions, name, features)
    return matrix


def numeric_feature(
    transactions: pa.RecordBatch | pa.Table, name: str, features: FeatureSet
) -> npt.NDArray[np.float64]:
    """One feature that is no category, float64[n].

    Raises:
      KeyError: a feature that the schema does not have.
    """
    if name == "is_weekend":
        return is_weekend(transactions.column("event_time"), features.schema.timezone)
    if name == "is_night":
        return is_night(transactions.column("event_time"), features.schema.timezone)
    values = transactions.column(name)
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)

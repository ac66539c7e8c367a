"""The feature matrix of a model: one row per transaction, one column per feature.

Among them are the calendar features, weekend and night, in the schema's time zone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.schema.schema import EVENT_TIME, Labels, Schema
from beam_fraud.schema.velocity import Velocity

#: The last hour of the night; the handbook's definition is `hour <= 6`.
LAST_NIGHT_HOUR = 6
#: The first day of the weekend, counting Monday as 0; the handbook's `weekday() >= 5`.
FIRST_WEEKEND_DAY = 5
#: Rows up to which a dictionary is faster than the calls of Arrow.
_FEW_ROWS = 64
_CALENDAR = ("is_weekend", "is_night")
_HOUR, _DAY = 3_600_000_000, 86_400_000_000
#: Weekday of the first day of the epoch, a Thursday.
_FIRST_DAY = 3


def categories_of(values: pa.Array | pa.ChunkedArray) -> tuple[str, ...]:
    """Return the distinct non-null values of a string column in code-point order."""
    return tuple(sorted(pc.unique(values.drop_null()).to_pylist()))


def code_categories(values: pa.Array, categories: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the position of each value in `categories`.

    Args:
      values: string[n].
      categories: the known values, at most 2**31.

    Returns:
      float64[n]: 0 .. k - 1 for known values, k for unknown ones, NaN for null.
    """
    unknown = float(len(categories))
    if len(values) <= _FEW_ROWS:
        known: dict[str | None, float] = {text: code for code, text in enumerate(categories)}
        known[None] = float("nan")
        return np.array([known.get(text, unknown) for text in values.to_pylist()], np.float64)
    codes = pc.index_in(values, value_set=pa.array(categories, pa.string()), skip_nulls=True)
    coded = codes.cast(pa.float64()).fill_null(unknown)
    coded = pc.if_else(values.is_valid(), coded, pa.scalar(float("nan")))
    return np.asarray(coded.to_numpy(zero_copy_only=False), dtype=np.float64)


@dataclass(frozen=True)
class FeatureSet:
    """The features of a model, and everything needed to compute them.

    Example:
      >>> from beam_fraud.schema.presets import HANDBOOK
      >>> FeatureSet(HANDBOOK).names[:4]
      ('amount', 'is_weekend', 'is_night', 'account_count_1d')
    """

    #: The schema of the transactions.
    schema: Schema
    #: Categorical column to its known values, in code order.
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: The features in the model's order; empty for all of the schema.
    order: tuple[str, ...] = ()
    #: Further velocity features for rules, outside the matrix.
    also: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in the order of the matrix's columns."""
        if self.order:
            return self.order
        calendar = _CALENDAR if self.schema.calendar else ()
        velocity = (name for definition in self.schema.velocity for name in definition.names)
        return (*(f.column for f in self.schema.features), "amount", *calendar, *velocity)

    @property
    def velocity(self) -> tuple[Velocity, ...]:
        """Definitions of all velocity features, including those for rules."""
        names = {*self.names, *self.also}
        return tuple(v for v in self.schema.velocity if not names.isdisjoint(v.names))

    def same_block(self, other: FeatureSet) -> bool:
        """Return whether `feature_matrix` is the same for other features of the same columns."""
        return (self.names, self.categories, self.schema.timezone) == (
            other.names,
            other.categories,
            other.schema.timezone,
        )

    @property
    def labels(self) -> Labels:
        """Treatment of labels: only features that count known frauds read them."""
        return "known" if any(v.needs_labels for v in self.velocity) else "ignored"

    @property
    def categorical(self) -> tuple[int, ...]:
        """Positions in `names` of the categorical features."""
        kinds = {f.column: f.kind for f in self.schema.features}
        return tuple(i for i, n in enumerate(self.names) if kinds.get(n) == "categorical")


def feature_matrix(
    transactions: pa.RecordBatch | pa.Table,
    features: FeatureSet,
    computed: Mapping[str, npt.NDArray[np.float64]] = MappingProxyType({}),
) -> npt.NDArray[np.float64]:
    """Compute the features of validated transactions.

    Args:
      transactions: n rows as `Schema.transactions` describes them, with velocity features
        (`velocity.columns.with_velocity`).
      features: the features in order.
      computed: features that are no columns, float64[n] each.

    Returns:
      float64[n, len(features.names)], C-contiguous; NaN where a value is absent.

    Raises:
      KeyError: the schema lacks a feature.
    """
    names = features.names
    matrix = np.empty((transactions.num_rows, len(names)), dtype=np.float64)
    # Columns by their place: Arrow looks a name up among all at every call.
    places = {name: place for place, name in enumerate(transactions.schema.names)}
    for position, name in enumerate(names):
        if (feature := computed.get(name)) is not None:
            matrix[:, position] = feature
            continue
        values = transactions.column(places[name]) if name in places else None
        if values is not None and pa.types.is_string(values.type):
            matrix[:, position] = code_categories(values, features.categories.get(name, ()))
        elif values is None or name in _CALENDAR:
            matrix[:, position] = numeric_feature(transactions, name, features)
        else:
            matrix[:, position] = values.to_numpy(zero_copy_only=False)
    return matrix


#: Type: a transaction as values, column of `Schema.transactions` to text, number, microseconds.
Values: TypeAlias = Mapping[str, Any]
#: Type: a number of a transaction, of its values and its velocity features.
NumberOf: TypeAlias = Callable[[Values, Mapping[str, float]], float]


def number_of(name: str, features: FeatureSet) -> NumberOf:
    """Return what reads a feature, or a number, of single transactions.

    Its numbers are those of `feature_matrix`, NaN where a value is absent.
    """
    schema = features.schema
    if name in _CALENDAR:
        holds, timezone = (is_weekend if name == "is_weekend" else is_night), schema.timezone
        if timezone != "UTC":
            return lambda row, computed: float(
                holds(pa.array([row["event_time"]], EVENT_TIME), timezone)[0]
            )
        if name == "is_weekend":
            return lambda row, computed: float(
                (row["event_time"] // _DAY + _FIRST_DAY) % 7 >= FIRST_WEEKEND_DAY
            )
        return lambda row, computed: float(row["event_time"] // _HOUR % 24 <= LAST_NIGHT_HOUR)
    kinds = {f.column: f.kind for f in schema.features}
    if kinds.get(name) == "categorical":
        known = features.categories.get(name, ())
        codes: dict[str | None, float] = {text: float(code) for code, text in enumerate(known)}
        codes[None], unknown = math.nan, float(len(known))
        return lambda row, computed: codes.get(row[name], unknown)
    if name in kinds or name == "amount":
        return lambda row, computed: math.nan if row[name] is None else float(row[name])
    return lambda row, computed: computed[name]


class RowFeatures:
    """The features of a few transactions that are values.

    Args:
      features: the features in order.
    """

    def __init__(self, features: FeatureSet) -> None:
        names = features.names
        own = [name for name in names if _is_own(name, features)]
        computed = [name for name in names if not _is_own(name, features)]
        self._own = [number_of(name, features) for name in own]
        self._computed = _items(computed)
        self._ordered = _items([[*own, *computed].index(name) for name in names])

    def matrix(
        self, rows: Sequence[Values], computed: Sequence[Mapping[str, float]]
    ) -> npt.NDArray[np.float64]:
        """Return what `feature_matrix` does for n transactions and their velocity features."""
        ordered: list[tuple[float, ...]] = []
        for row, velocity in zip(rows, computed, strict=True):
            numbers = [number(row, velocity) for number in self._own]
            numbers += self._computed(velocity)
            ordered.append(self._ordered(numbers))
        return np.array(ordered)


def _is_own(name: str, features: FeatureSet) -> bool:
    """Return whether a feature is of the transaction's own values."""
    columns = (feature.column for feature in features.schema.features)
    return name == "amount" or name in _CALENDAR or name in columns


def _items(keys: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what returns the items of some keys, by one call for several."""
    if len(keys) > 1:
        return itemgetter(*keys)
    return lambda values: tuple(values[key] for key in keys)


def numeric_feature(
    transactions: pa.RecordBatch | pa.Table, name: str, features: FeatureSet
) -> npt.NDArray[np.float64]:
    """Return a numeric feature, float64[n].

    Raises:
      KeyError: the schema lacks a feature.
    """
    if name == "is_weekend":
        return is_weekend(transactions.column("event_time"), features.schema.timezone)
    if name == "is_night":
        return is_night(transactions.column("event_time"), features.schema.timezone)
    values = transactions.column(name)
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)


#: Name of the column; user columns cannot start like it.
FEATURES: Final = "@features"


def append_block(batch: pa.RecordBatch, block: npt.NDArray[np.float64]) -> pa.RecordBatch:
    """Return the batch with `block` as its last column, without a copy.

    Args:
      batch: n rows.
      block: float64[n, features], C-contiguous.
    """
    values = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), block.shape[1])
    return batch.append_column(FEATURES, values)


def split_block(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, npt.NDArray[np.float64]]:
    """Return the inverse of `append_block`: the rows, and float64[n, features]."""
    column = batch.column(FEATURES)
    block = column.flatten().to_numpy(zero_copy_only=False)
    return batch.drop_columns([FEATURES]), block.reshape(len(batch), column.type.list_size)


def table_schema(features: FeatureSet) -> pa.Schema:
    """Return the table's columns: `transaction_id`, then features as float64 or string."""
    categorical = {features.names[place] for place in features.categorical}
    return pa.schema(
        [
            pa.field("transaction_id", pa.string(), nullable=False),
            *(
                pa.field(name, pa.string() if name in categorical else pa.float64())
                for name in features.names
            ),
        ]
    )


def feature_table(transactions: pa.RecordBatch, features: FeatureSet) -> pa.RecordBatch:
    """Return the ids and features of n transactions.

    Args:
      transactions: n rows as `Schema.transactions` describes them, with velocity features.
      features: the features in order.

    Returns:
      n rows of `table_schema`; NaN or null where a value is absent. Categories are strings: only a
      model has codes for them.
    """
    described = table_schema(features)
    columns = [transactions.column("transaction_id")]
    for column in list(described)[1:]:
        if pa.types.is_string(column.type):
            columns.append(transactions.column(column.name))
        else:
            columns.append(pa.array(numeric_feature(transactions, column.name, features)))
    return pa.RecordBatch.from_arrays(columns, schema=described)


def local_time(event_time: pa.Array, timezone: str) -> pa.Array:
    """Convert event times (timestamp[us, UTC]) to local timestamps in `timezone`."""
    # Arrow looks even UTC up in the system's time zones, which slim containers lack.
    return event_time.cast(pa.timestamp("us", tz=None if timezone == "UTC" else timezone))


def is_weekend(event_time: pa.Array, timezone: str = "UTC") -> npt.NDArray[np.float64]:
    """1.0 on Saturday and Sunday in `timezone`, else 0.0; float64[n] of timestamp[us, UTC][n]."""
    if timezone == "UTC":
        days = _micros(event_time) // _DAY + _FIRST_DAY
        return (days % 7 >= FIRST_WEEKEND_DAY).astype(np.float64)
    day = pc.day_of_week(local_time(event_time, timezone))
    return _as_float(pc.greater_equal(day, FIRST_WEEKEND_DAY))


def is_night(event_time: pa.Array, timezone: str = "UTC") -> npt.NDArray[np.float64]:
    """1.0 from 00:00 to 06:59 in `timezone`, else 0.0; float64[n] of timestamp[us, UTC][n]."""
    if timezone == "UTC":
        hours = _micros(event_time) // _HOUR
        return (hours % 24 <= LAST_NIGHT_HOUR).astype(np.float64)
    hour = pc.hour(local_time(event_time, timezone))
    return _as_float(pc.less_equal(hour, LAST_NIGHT_HOUR))


def _micros(event_time: pa.Array) -> npt.NDArray[np.int64]:
    # A single row is a twelfth of what Arrow's kernels cost, 50,000 are two thirds.
    times = event_time.to_numpy(zero_copy_only=False)
    return np.asarray(times, dtype="datetime64[us]").view(np.int64)


def _as_float(mask: pa.Array) -> npt.NDArray[np.float64]:
    return np.asarray(mask.to_numpy(zero_copy_only=False), dtype=np.float64)

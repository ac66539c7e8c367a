"""Columns of segments, features or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from beam_fraud.errors import Code, UsageError
from beam_fraud.evaluation.rows import EvaluatedRows
from beam_fraud.evaluation.segmentation import (
    Segmentation,
    by_amount,
    by_hour,
    by_number,
    by_value,
    by_weekday,
)
from beam_fraud.schema.schema import FeatureColumn, Schema

#: Roles that `--segment` accepts, by role or column name.
_ROLES = ("account_id", "merchant_id", "currency")


def schema_to_read(schema: Schema, asked: Sequence[str]) -> Schema:
    """Return a schema that also reads the requested columns, as optional text.

    Models select features by name, so they ignore added columns.

    Args:
      schema: of the transactions.
      asked: values of `--segment`.

    Raises:
      UsageError: a column is invalid as a segment.
    """
    added = []
    for column in dict.fromkeys(asked):
        if _known(schema, column) is not None:
            continue
        if column in schema.roles.values():
            raise UsageError(
                f"--segment {column}: is the time, amount, label or id of every row; "
                "give another column",
                Code.OPTION_VALUE,
            )
        added.append(FeatureColumn(column, "categorical", "allow"))
    return replace(schema, features=(*schema.features, *added)) if added else schema


def segmentations_of(
    transactions: pa.Table, rows: EvaluatedRows, schema: Schema, asked: Sequence[str]
) -> tuple[Segmentation, ...]:
    """Return segmentations by amount, hour, weekday, merchant, categories and request.

    Args:
      transactions: transactions read with `schema_to_read`.
      rows: their arrays.
      schema: the schema without the added columns.
      asked: values of `--segment`.
    """
    found = [by_amount(rows.amounts), by_hour(rows), by_weekday(rows)]
    columns = [f.column for f in schema.features if f.kind == "categorical"]
    if "merchant_id" in schema.roles:
        columns.insert(0, "merchant_id")
    columns += [_known(schema, column) or column for column in asked]
    for column in dict.fromkeys(columns):
        values = transactions.column(column)
        if pa.types.is_string(values.type):
            found.append(by_value(column, values, rows.labels))
        else:
            numbers = np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
            found.append(by_number(column, numbers))
    return tuple(found)


def _known(schema: Schema, column: str) -> str | None:
    """Return the name of a column among those read anyway, or None."""
    for role in _ROLES:
        if role in schema.roles and column in (role, schema.roles[role]):
            return role
    features = (feature.column for feature in schema.features)
    return column if column in (*features, *schema.key_columns) else None

"""Absent values, and their relation to fraud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from beam_fraud.evaluation.explore.rows import Mask, Rows


@dataclass(frozen=True)
class Missing:
    """Absent values of a column or a computed feature."""

    #: Name of the column as the files have it, or of the feature.
    column: str
    #: Valid rows without a value.
    absent: int
    #: Their share of the transactions.
    share: float
    #: Dead letters for lack of this value.
    dead: int
    #: Frauds over labelled rows where it is absent; None without any.
    rate_absent: float | None
    #: The same where it is present.
    rate_present: float | None
    #: ROC AUC of absence, 0.5 .. 1; None without both classes.
    roc_auc: float | None


def missing_values(rows: Rows, dead: Mapping[str, int]) -> tuple[Missing, ...]:
    """Return absent values of every column of the schema, then of every other feature.

    Args:
      rows: n > 0 rows.
      dead: dead letters with a missing value, by column (`Dataset.dead_missing`).
    """
    columns = _columns(rows)
    table = rows.transactions
    nothing = np.zeros(len(rows), dtype=bool)
    return tuple(
        _missing(
            column,
            _absent(table.column(name)) if name in table.schema.names else nothing,
            dead.get(column, 0),
            rows,
        )
        for column, name in columns.items()
    )


def _columns(rows: Rows) -> dict[str, str]:
    """Return each name with its column in the table of transactions."""
    schema = rows.features.schema
    roles = {column: role for role, column in schema.roles.items()}
    read = {column: roles.get(column, column) for column in schema.columns(labels="known")}
    known = {*read, *read.values()}
    return read | {name: name for name in rows.features.names if name not in known}


def _absent(values: pa.ChunkedArray) -> Mask:
    absent = values.is_null(nan_is_null=pa.types.is_floating(values.type))
    return np.asarray(absent.to_numpy(), dtype=bool)


def _missing(column: str, absent: Mask, dead: int, rows: Rows) -> Missing:
    frauds, genuine = int(rows.fraud.sum()), int(rows.genuine.sum())
    count = int(absent.sum())
    fraud_absent = int((absent & rows.fraud).sum()) if count else 0
    genuine_absent = int((absent & rows.genuine).sum()) if count else 0
    auc = None
    if frauds and genuine:
        auc = 0.5 + abs(fraud_absent / frauds - genuine_absent / genuine) / 2
    return Missing(
        column=column,
        absent=count,
        share=count / len(rows),
        dead=dead,
        rate_absent=_share(fraud_absent, fraud_absent + genuine_absent),
        rate_present=_share(
            frauds - fraud_absent, frauds + genuine - fraud_absent - genuine_absent
        ),
        roc_auc=auc,
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None

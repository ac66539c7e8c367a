"""Absent values and equal rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.evaluation.explore.rows import Mask, Rows, Whole
from beam_fraud.features.hashing import IdHash
from beam_fraud.schema.schema import LABEL_ROLES


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


@dataclass(frozen=True)
class Duplicates:
    """Equal rows among n transactions; their ids are not compared."""

    #: Rows equal to an earlier one, label included.
    rows: int
    #: Their share of all rows.
    share: float
    #: Frauds among them.
    frauds: int
    #: Sets of equal rows.
    groups: int
    #: Rows of the largest set; 1 without any.
    largest: int
    #: Sets of rows equal except for the label, with frauds and genuine rows.
    conflicting_groups: int
    #: Rows of those sets.
    conflicting_rows: int


def duplicates(rows: Rows) -> Duplicates:
    """Compare n > 0 rows in all columns of the schema but `transaction_id`."""
    table = rows.transactions
    computed = {name for velocity in rows.features.schema.velocity for name in velocity.names}
    names = [n for n in table.schema.names if n != "transaction_id" and n not in computed]
    codes = [_codes(table.column(name)) for name in names if name not in LABEL_ROLES]
    repeated, group = _groups(codes)
    conflicting = _conflicting(group, rows)
    conflicting_rows = int(conflicting[group].sum())
    labels = [name for name in names if name in LABEL_ROLES]
    sizes = np.bincount(group)
    # Compare labels only among rows equal so far.
    near = np.flatnonzero(sizes[group] > 1)
    if labels and len(near):
        codes += [_codes(table.column(name)) for name in labels]
        repeated[near], group = _groups([column[near] for column in codes])
        sizes = np.bincount(group)
    return Duplicates(
        rows=int(repeated.sum()),
        share=float(repeated.mean()),
        frauds=int((repeated & rows.fraud).sum()),
        groups=int((sizes > 1).sum()),
        largest=int(sizes.max()),
        conflicting_groups=int(conflicting.sum()),
        conflicting_rows=conflicting_rows,
    )


def _codes(values: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Return a 64-bit number per value, equal for equal values; nulls are equal."""
    if pa.types.is_floating(values.type):
        numbers = values.to_numpy().astype(np.float64)
        numbers += 0.0  # -0.0 is 0.0
        numbers[np.isnan(numbers)] = np.nan
        return np.asarray(numbers.view(np.uint64))
    if pa.types.is_string(values.type):
        values = values.combine_chunks().dictionary_encode().indices
    whole = values.cast(pa.int64()).fill_null(np.iinfo(np.int64).min)
    return np.asarray(whole.to_numpy().view(np.uint64))


def _groups(columns: list[npt.NDArray[np.uint64]]) -> tuple[Mask, Whole]:
    """Return bool[n]: rows equal to an earlier one; int64[n]: number of each set of equal rows."""
    # Hashes only group candidates; equality is checked afterwards.
    hashes = IdHash.random().of_words(columns)
    order = np.argsort(hashes, kind="stable")
    same = hashes[order[1:]] == hashes[order[:-1]]
    for column in columns:
        near = np.flatnonzero(same)
        same[near] = column[order[near + 1]] == column[order[near]]
    repeated = np.zeros(len(order), dtype=bool)
    repeated[order[1:]] = same
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.concatenate(([0], np.cumsum(~same)))
    return repeated, group


def _conflicting(group: Whole, rows: Rows) -> Mask:
    """Return bool[sets]: sets with frauds and genuine rows."""
    count = int(group.max()) + 1
    frauds = np.bincount(group[rows.fraud], minlength=count)
    genuine = np.bincount(group[rows.genuine], minlength=count)
    return (frauds > 0) & (genuine > 0)

"""Rows that are equal in all columns of the schema."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.evaluation.explore.rows import Mask, Rows, Whole
from beam_fraud.features.hashing import IdHash
from beam_fraud.schema.schema import LABEL_ROLES


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

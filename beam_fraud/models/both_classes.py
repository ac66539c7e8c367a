"""Frauds and genuine transactions: without both there is nothing to learn, or to choose by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.errors import FraudError
from beam_fraud.event_time import event_micros, moment_of
from beam_fraud.models.folds import Division
from beam_fraud.schema import Schema


def checked_labels(transactions: pa.Table, schema: Schema) -> npt.NDArray[np.int8]:
    """The labels of n transactions, int8[n].

    Raises:
      FraudError: there is no label, no row or only one class.
    """
    if schema.role("label") is None:
        raise FraudError(
            f"schema {schema.name}: no column is given for the role 'label', so there is nothing "
            "to learn from"
        )
    if not transactions.num_rows:
        raise FraudError("no rows to train on in the files and times given")
    labels = np.asarray(transactions.column("label").to_numpy(), dtype=np.int8)
    _check(labels, "rows", "")
    return labels


def check_folds(division: Division, transactions: pa.Table, labels: npt.NDArray[np.int8]) -> None:
    """See that every fold can be fitted, and judged by.

    Raises:
      FraudError: some of its rows are all of one class.
    """
    times = event_micros(transactions)
    several = len(division.folds) > 1
    for number, fold in enumerate(division.folds, 1):
        of, fewer = (f" of fold {number}", ", or fewer --folds") if several else ("", "")
        _check(labels[fold.train], f"rows to fit on{of}", fewer)
        if not len(fold.valid):
            raise FraudError(
                f"no validation rows{of} are left: all are of cards that are known to be "
                f"compromised by then; leave out --drop-known-cards{fewer}"
            )
        first, last = (moment_of(int(at(times[fold.valid]))).isoformat() for at in (np.min, np.max))
        _check(labels[fold.valid], f"validation rows{of} (from {first} to {last})", fewer)


def _check(labels: npt.NDArray[np.int8], rows: str, or_else: str) -> None:
    frauds = int(labels.sum())
    if not 0 < frauds < len(labels):
        only = "a fraud" if frauds else "genuine"
        raise FraudError(
            f"training needs frauds and genuine transactions: each of the {len(labels)} {rows} "
            f"is {only}; give other times (--from, --valid-from, --until){or_else}"
        )

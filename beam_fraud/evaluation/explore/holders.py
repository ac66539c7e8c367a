"""Rows and frauds by account and merchant; no id is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from beam_fraud.evaluation.explore.rows import Rows


@dataclass(frozen=True)
class Holders:
    """Figures of accounts or of merchants."""

    #: `accounts` or `merchants`.
    role: Literal["account_id", "merchant_id"]
    #: Their number.
    distinct: int
    #: Median of rows.
    median_rows: float
    #: Maximum of rows.
    most_rows: int
    #: Number with a fraud.
    defrauded: int
    #: Share of frauds of the 1 % with most frauds; None without frauds.
    share_of_worst: float | None


def holders(rows: Rows) -> tuple[Holders, ...]:
    """Return the figures of accounts and merchants that the schema has."""
    roles: tuple[Literal["account_id", "merchant_id"], ...] = ("account_id", "merchant_id")
    return tuple(_of(role, rows) for role in roles if rows.features.schema.role(role))


def _of(role: Literal["account_id", "merchant_id"], rows: Rows) -> Holders:
    encoded = rows.texts(role).dictionary_encode()
    codes = np.asarray(encoded.indices, dtype=np.int64)
    distinct = len(encoded.dictionary)
    counts = np.bincount(codes, minlength=distinct)
    frauds = np.sort(np.bincount(codes[rows.fraud], minlength=distinct))
    total = int(frauds.sum())
    worst = int(frauds[-max(distinct // 100, 1) :].sum())
    return Holders(
        role=role,
        distinct=distinct,
        median_rows=float(np.median(counts)),
        most_rows=int(counts.max()),
        defrauded=int((frauds > 0).sum()),
        share_of_worst=worst / total if total else None,
    )

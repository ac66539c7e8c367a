"""The rarity of fraud, by rows and by amount."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_fraud.evaluation.explore.rates import Rate, rates
from beam_fraud.evaluation.explore.rows import Rows
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros


@dataclass(frozen=True)
class Balance:
    """The classes of n rows."""

    #: All rows.
    rows: int
    #: Labelled as genuine.
    genuine: int
    #: Labelled as fraud.
    frauds: int
    #: Without a label.
    unlabelled: int
    #: Frauds over labelled rows, with its interval.
    rate: Rate
    #: Frauds per day, from the first row to the last; None for less than a day.
    frauds_a_day: float | None
    #: Rows per day; None for less than a day.
    rows_a_day: float | None
    #: Mean amount of genuine rows; None without any.
    mean_genuine_amount: float | None
    #: Mean amount of frauds; None without any.
    mean_fraud_amount: float | None
    #: Share of frauds in the total amount of labelled rows; None without any.
    fraud_share_of_amount: float | None


def balance(rows: Rows) -> Balance:
    """Count the classes of n > 0 rows."""
    genuine, frauds = int(rows.genuine.sum()), int(rows.fraud.sum())
    times = event_micros(rows.transactions)
    days = (int(times[-1]) - int(times[0])) / DAY
    amounts = rows.numbers("amount")
    lost, kept = float(amounts[rows.fraud].sum()), float(amounts[rows.genuine].sum())
    (rate,) = rates(("all",), np.zeros(len(rows), dtype=np.int64), rows)
    return Balance(
        rows=len(rows),
        genuine=genuine,
        frauds=frauds,
        unlabelled=len(rows) - genuine - frauds,
        rate=rate,
        frauds_a_day=frauds / days if days >= 1 else None,
        rows_a_day=len(rows) / days if days >= 1 else None,
        mean_genuine_amount=kept / genuine if genuine else None,
        mean_fraud_amount=lost / frauds if frauds else None,
        fraud_share_of_amount=lost / (lost + kept) if lost + kept > 0 else None,
    )

"""Labelled transactions as arrays, the input of all figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.features.matrix import local_time
from beam_fraud.schema.duration import DAY, HOUR

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int8]


@dataclass(frozen=True)
class EvaluatedRows:
    """n labelled transactions, independent of models."""

    #: int8[n], 1 is fraud.
    labels: Labels
    #: int64[n], local event times in microseconds, in the schema's time zone.
    times: Ints
    #: float64[n], account currency.
    amounts: Floats
    #: int64[n], a number for each account from 0 on; None without accounts.
    accounts: Ints | None


def rows_of(transactions: pa.Table, timezone: str) -> EvaluatedRows:
    """Return the arrays of validated transactions with labels.

    Args:
      transactions: as `Schema.transactions(labels="required")` describes them.
      timezone: time zone of days and hours.
    """
    accounts = transactions.column("account_id").combine_chunks()
    known = len(accounts) > 0 and accounts.null_count == 0
    return EvaluatedRows(
        labels=np.asarray(transactions.column("label").to_numpy(), dtype=np.int8),
        times=clock_micros(transactions.column("event_time"), timezone),
        amounts=np.asarray(transactions.column("amount").to_numpy(), dtype=np.float64),
        accounts=np.asarray(accounts.dictionary_encode().indices, np.int64) if known else None,
    )


def clock_micros(event_time: pa.ChunkedArray, timezone: str) -> Ints:
    """Return event times as the clocks of a time zone show them, int64[n] microseconds."""
    times = local_time(event_time, timezone)
    if times.type.tz is not None:
        times = pc.local_timestamp(times)
    return np.asarray(times.cast(pa.int64()).to_numpy(), dtype=np.int64)


def hours_of(times: Ints) -> Ints:
    """Return hours 0 to 23, int64[n], of int64[n] microseconds."""
    return times // HOUR % 24


def weekdays_of(times: Ints) -> Ints:
    """Return weekdays from Monday, 0, to Sunday, 6, int64[n], of int64[n] microseconds."""
    # 1970-01-01 was a Thursday.
    return (times // DAY + 3) % 7

"""Flagged rows as columns of the tables `flagged_transactions` and `alerts`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC
from functools import cache
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.alert import alert_id
from beam_fraud.sinks.tables import FLAGGED
from beam_fraud.stages import REASON

_COLUMNS = [column.name for column in FLAGGED.columns]
#: A reason as an object that takes the least time to make and to encode.
_Reason = msgspec.defstruct("_Reason", [field.name for field in REASON.fields], gc=False)


def flagged_columns(batch: pa.RecordBatch) -> dict[str, list[object]]:
    """The columns of `flagged_transactions`, lists as JSON text, for n rows of `stages.SCORED`."""
    made = {"event_time": _moments, "rules": _rules_json, "reasons": _reasons_json}
    return {name: made.get(name, _values)(batch.column(name)) for name in _COLUMNS}


def alert_columns(
    flagged: dict[str, list[object]], channels: Sequence[str]
) -> dict[str, list[object]]:
    """The columns of `alerts` that are known at first, of c channels.

    Args:
      flagged: `flagged_columns` of n rows.
      channels: names.

    Returns:
      n * c values each, one channel after the other.
    """
    columns = {name: values * len(channels) for name, values in flagged.items()}
    ids = [str(key) for key in flagged["transaction_id"]]
    columns["alert_id"] = [alert_id(key, channel) for channel in channels for key in ids]
    columns["channel"] = [channel for channel in channels for _ in ids]
    return columns


def _values(column: pa.Array) -> list[object]:
    """As `to_pylist`, many times as fast; a number that is null becomes NaN."""
    values: list[object] = column.to_numpy(zero_copy_only=False).tolist()
    return values


def _moments(column: pa.Array) -> list[object]:
    naive = column.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False).tolist()
    return [moment.replace(tzinfo=UTC) for moment in naive]


def _rules_json(rules: pa.ListArray) -> list[object]:
    # Most rows have one of a few lists.
    encoded = cache(lambda names: msgspec.json.encode(names).decode())
    return [encoded(tuple(names)) for names in _cut(_values(rules.flatten()), rules)]


def _reasons_json(reasons: pa.ListArray) -> list[object]:
    # A null number is NaN here, and null again in JSON.
    every = list(map(_Reason, *map(_values, reasons.flatten().flatten())))
    encode = msgspec.json.Encoder().encode
    return [encode(listed).decode() if listed else "[]" for listed in _cut(every, reasons)]


def _cut(values: list[Any], lists: pa.ListArray) -> Iterator[list[Any]]:
    """The values of each list, of all that `lists.flatten()` gave; none of a null one."""
    start = 0
    for length in pc.list_value_length(lists).fill_null(0).to_numpy().tolist():
        yield values[start : start + length]
        start += length

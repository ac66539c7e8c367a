"""Convert flagged rows to columns of the tables `flagged_transactions` and `alerts`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.alerts.alert import AlertContext, alert_id
from beam_fraud.schema.stages import REASON, SCORED
from beam_fraud.storage.database.tables import ALERTS, FLAGGED
from beam_fraud.storage.database.upsert import values_of

_COLUMNS = [column.name for column in FLAGGED.columns if column.name in SCORED.names]
#: A reason as a struct that is fast to create and to encode.
_Reason = msgspec.defstruct("_Reason", [field.name for field in REASON.fields], gc=False)


def flagged_columns(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Return the columns of `flagged_transactions` for n rows; lists become JSON text."""
    converters = {"rules": _rules_json, "shadow_rules": _rules_json, "reasons": _reasons_json}
    columns = {name: batch.column(name) for name in _COLUMNS}
    return {
        name: converters[name](values) if name in converters else values
        for name, values in columns.items()
    }


def alert_columns(
    flagged: dict[str, pa.Array], channels: Sequence[str], context: AlertContext | None = None
) -> dict[str, pa.Array]:
    """Return the initial columns of `alerts` for c channels.

    Args:
      flagged: `flagged_columns` of n rows.
      channels: names of channels.
      context: settings that alerts need beside their rows, or None.

    Returns:
      n * c values each, channel by channel.
    """
    if context is not None:
        flagged = {**flagged, **_context_columns(flagged, context)}
    columns = {
        name: pa.concat_arrays([values] * len(channels))
        for name, values in flagged.items()
        if name in ALERTS.columns
    }
    ids = values_of(flagged["transaction_id"])
    keys = [alert_id(str(key), channel) for channel in channels for key in ids]
    columns["alert_id"] = pa.array(keys, pa.string())
    columns["channel"] = pa.array(channels, pa.string()).take(
        np.repeat(np.arange(len(channels)), len(ids))
    )
    return columns


def _context_columns(flagged: dict[str, pa.Array], context: AlertContext) -> dict[str, pa.Array]:
    @cache
    def encoded(rules: str, decision: str, by_model: str) -> str:
        names = msgspec.json.decode(rules, type=list[str])
        return msgspec.json.encode(context.fired(names, decision, by_model)).decode()

    rows = zip(*(values_of(flagged[name]) for name in ("rules", "decision", "score")), strict=True)
    fired = [
        encoded(rules, decision, context.model_decision(score)) for rules, decision, score in rows
    ]
    return {
        "fired_rules": pa.array(fired, pa.string()),
        "timezone": pa.repeat(pa.scalar(context.timezone), len(fired)),
    }


def _rules_json(rules: pa.ListArray) -> pa.Array:
    # Encode each distinct list once: most rows have one of a few.
    encoded = cache(lambda names: msgspec.json.encode(names).decode())
    lists = _cut(values_of(rules.flatten()), rules)
    return pa.array([encoded(tuple(names)) for names in lists], pa.string())


def _reasons_json(reasons: pa.ListArray) -> pa.Array:
    # A null number is NaN here; JSON encodes it as null.
    every = list(map(_Reason, *map(values_of, reasons.flatten().flatten())))
    encode = msgspec.json.Encoder().encode
    lists = [encode(listed) if listed else b"[]" for listed in _cut(every, reasons)]
    return pa.array(lists, pa.binary()).cast(pa.string())


def _cut(values: list[Any], lists: pa.ListArray) -> Iterator[list[Any]]:
    """Yield the values of each list of `lists.flatten()`; null lists are empty."""
    start = 0
    for length in pc.list_value_length(lists).fill_null(0).to_numpy().tolist():
        yield values[start : start + length]
        start += length

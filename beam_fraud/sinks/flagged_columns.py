"""Flagged rows as columns of the tables `flagged_transactions` and `alerts`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pyarrow as pa

from beam_fraud.alert import alert_id
from beam_fraud.sinks.tables import FLAGGED

_COLUMNS = [column.name for column in FLAGGED.columns]


def flagged_columns(batch: pa.RecordBatch) -> dict[str, list[object]]:
    """The columns of `flagged_transactions`, lists as JSON text, for n rows of `stages.SCORED`."""
    columns = {
        name: batch.column(name).to_pylist()
        for name in _COLUMNS
        if name not in ("rules", "reasons")
    }
    columns["rules"] = _rules_json(batch.column("rules"))
    columns["reasons"] = _reasons_json(batch.column("reasons"))
    return columns


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


def _rules_json(rules: pa.ListArray) -> list[object]:
    # Most rows have one of a few lists.
    known: dict[tuple[str, ...], str] = {}
    made: list[object] = []
    for names in rules.to_pylist():
        key = tuple(names or ())
        if key not in known:
            known[key] = msgspec.json.encode(key).decode()
        made.append(known[key])
    return made


def _reasons_json(reasons: pa.ListArray) -> list[object]:
    """As `to_pylist` and an encoder would, without a dictionary of every row's lists first."""
    values = reasons.values
    names = [values.type.field(number).name for number in range(values.type.num_fields)]
    fields = [field.to_pylist() for field in values.flatten()]
    every = [dict(zip(names, row, strict=True)) for row in zip(*fields, strict=True)]
    there = reasons.is_valid().to_pylist()
    encode = msgspec.json.Encoder().encode
    bounds = pairwise(reasons.offsets.to_pylist())
    return [
        encode(every[start:end]).decode() if valid and end > start else "[]"
        for (start, end), valid in zip(bounds, there, strict=True)
    ]

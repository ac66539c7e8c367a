"""Flagged transactions as BigQuery reads them: one JSON object a row."""

from __future__ import annotations

import math
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.sinks.bigquery.table import COLUMNS
from beam_fraud.stages import REASON

_NUMBERS = [field.name for field in REASON if pa.types.is_floating(field.type)]
# The seconds of an Arrow time have its fraction: microseconds.
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def table_rows(batch: pa.RecordBatch, written_at: datetime) -> list[dict[str, object]]:
    """Rows of the columns of `table.FIELDS`, of values that JSON knows.

    Args:
      batch: rows of the schema `stages.SCORED`.
      written_at: the moment at which they are written, UTC.

    Returns:
      A dictionary a row. A number that is none (a feature that is not defined) is None; a list that
      is not there is empty, for BigQuery has no null in its place.
    """
    columns = [name for name in COLUMNS if name != "written_at"]
    chosen = batch.select(columns)
    times = pc.strftime(chosen.column("event_time"), format=_TIME)
    chosen = chosen.set_column(columns.index("event_time"), "event_time", times)
    written = f"{written_at:%Y-%m-%dT%H:%M:%S.%fZ}"
    rows: list[dict[str, object]] = chosen.to_pylist()
    for row in rows:
        row["rules"] = row["rules"] or []
        row["reasons"] = [_reason(reason) for reason in _list(row["reasons"])]
        row["written_at"] = written
    return rows


def _list(value: object) -> list[dict[str, object]]:
    return value if isinstance(value, list) else []


def _reason(reason: dict[str, object]) -> dict[str, object]:
    for name in _NUMBERS:
        value = reason[name]
        if isinstance(value, float) and not math.isfinite(value):
            reason[name] = None
    return reason

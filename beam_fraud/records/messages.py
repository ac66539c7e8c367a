"""Convert dead letters and scored rows to messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.schema.stages import SCORED

#: Maximum bytes of a record in a message: with the headers less than the default limit of brokers
#: and clients, a million.
MAX_BYTES = 900_000


@dataclass(frozen=True)
class DeadLetterMessage:
    """A dead letter as a message."""

    #: The record, or its first `MAX_BYTES`; empty without one.
    value: bytes
    #: `source`, `position`, `reason` and `detail`; for a truncated record also `truncated`, its
    #: full length in bytes. All are text.
    headers: tuple[tuple[str, str], ...]


def dead_letter_messages(dead: pa.RecordBatch) -> list[DeadLetterMessage]:
    """Return a message per dead letter.

    Args:
      dead: n rows of the schema `stages.DEAD_LETTER`.
    """
    return [_message(**row) for row in dead.to_pylist()]


def _message(
    source: str, position: int, reason: str, detail: str | None, payload: bytes | None
) -> DeadLetterMessage:
    value = payload or b""
    headers = [("source", source), ("position", str(position)), ("reason", reason)]
    headers.append(("detail", detail or ""))
    if len(value) > MAX_BYTES:
        headers.append(("truncated", str(len(value))))
    return DeadLetterMessage(value[:MAX_BYTES], tuple(headers))


_ENCODER = msgspec.json.Encoder()


#: Members of a message: those of a scored row, in the order of `stages.SCORED`.
_Row = msgspec.defstruct("Row", [(name, Any) for name in SCORED.names], gc=False)


def scored_json(scored: pa.RecordBatch) -> list[bytes]:
    """Encode scored rows as JSON objects with all columns.

    Times have the form `2024-05-01T12:00:00.000005Z`; numbers read back exactly; `rules` and
    `reasons` are lists, empty for null; non-finite numbers are null.

    Args:
      scored: n rows of the schema `stages.SCORED`.
    """
    columns = {name: scored.column(name) for name in SCORED.names}
    values = {name: column.to_pylist() for name, column in columns.items() if name not in _OWN}
    values["event_time"] = _iso(columns["event_time"]).to_pylist()
    values["rules"] = _lists(columns["rules"])
    values["reasons"] = _lists(columns["reasons"])
    rows: Iterator[msgspec.Struct] = map(_Row, *(values[name] for name in SCORED.names))
    return [_ENCODER.encode(row) for row in rows]


#: Columns with special conversions.
_OWN = ("event_time", "rules", "reasons")


def _iso(times: pa.Array) -> pa.Array:
    text = times.cast(pa.timestamp("us")).cast(pa.string())
    return pc.binary_join_element_wise(pc.utf8_replace_slice(text, 10, 11, "T"), "Z", "")


def _lists(column: pa.Array) -> list[list[Any]]:
    """Return the lists of a column, empty for null; built one by one only if any has values."""
    filled = pc.greater(pc.list_value_length(column), 0).fill_null(False)
    lists: list[list[Any]] = [[]] * len(column)
    for row in pc.indices_nonzero(filled).to_pylist():
        lists[row] = column[row].as_py()
    return lists

"""Convert dead letters and scored rows to messages."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import fastavro
import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.records.envelopes import FRAME
from beam_fraud.schema.stages import SCORED

#: Type: form of scores in a topic.
OutForm = Literal["json", "avro"]
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

    Times have the form `2024-05-01T12:00:00.000005Z`; numbers read back exactly; `rules`,
    `shadow_rules` and `reasons` are lists, empty for null; non-finite numbers are null.

    Args:
      scored: n rows of the schema `stages.SCORED`.
    """
    columns = {name: scored.column(name) for name in SCORED.names}
    values = {name: column.to_pylist() for name, column in columns.items() if name not in _OWN}
    values["event_time"] = _iso(columns["event_time"]).to_pylist()
    values |= {name: _lists(columns[name]) for name in _LISTS}
    rows: Iterator[msgspec.Struct] = map(_Row, *(values[name] for name in SCORED.names))
    return [_ENCODER.encode(row) for row in rows]


#: Columns of lists, which are empty for null.
_LISTS = ("rules", "reasons", "shadow_rules")
#: Columns with special conversions.
_OWN = ("event_time", *_LISTS)


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


#: The Avro schema of a scored row.
SCORED_AVRO: dict[str, Any] = {
    "type": "record",
    "name": "ScoredTransaction",
    "namespace": "beam_fraud",
    "fields": [
        {"name": "transaction_id", "type": "string"},
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "account_id", "type": ["null", "string"], "default": None},
        {"name": "merchant_id", "type": ["null", "string"], "default": None},
        {"name": "amount", "type": "double"},
        {"name": "score", "type": "double"},
        {"name": "flagged", "type": "boolean"},
        {"name": "decision", "type": "string"},
        {"name": "rules", "type": {"type": "array", "items": "string"}},
        {
            "name": "reasons",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Reason",
                    "fields": [
                        {"name": "feature", "type": "string"},
                        {"name": "value", "type": ["null", "double"]},
                        {"name": "contribution", "type": "double"},
                        {"name": "text", "type": ["null", "string"]},
                        {"name": "approximate", "type": "boolean"},
                    ],
                },
            },
        },
        {"name": "model_id", "type": "string"},
        # With defaults, so that readers of either version read messages of the other.
        {"name": "rules_id", "type": ["null", "string"], "default": None},
        {"name": "shadow_rules", "type": {"type": "array", "items": "string"}, "default": []},
    ],
}


def scored_avro(scored: pa.RecordBatch, number: int) -> list[bytes]:
    """Encode scored rows as Avro (`SCORED_AVRO`) in the framing of a schema registry.

    Args:
      scored: n rows of the schema `stages.SCORED`.
      number: number of the schema in the registry.
    """
    columns = {name: scored.column(name) for name in SCORED.names}
    micros = columns["event_time"].cast(pa.int64())
    columns |= {"event_time": micros}
    values = {name: column.to_pylist() for name, column in columns.items() if name not in _LISTS}
    values |= {name: _lists(columns[name]) for name in _LISTS}
    frame = FRAME + number.to_bytes(4, "big")
    schema = _parsed_avro()
    messages = []
    for row in zip(*(values[name] for name in SCORED.names), strict=True):
        message = io.BytesIO(frame)
        message.seek(len(frame))
        fastavro.schemaless_writer(message, schema, dict(zip(SCORED.names, row, strict=True)))
        messages.append(message.getvalue())
    return messages


@cache
def _parsed_avro() -> Any:
    return fastavro.parse_schema(SCORED_AVRO)

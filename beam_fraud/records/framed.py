"""Messages in the framing of a schema registry: Avro, Protobuf and JSON Schema.

A framed message is a zero byte, the number of its schema (four bytes, big endian) and the record;
before a record of Protobuf stands the path to its type. A message without the zero byte is JSON.
Reference: https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from operator import itemgetter
from typing import Any, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.types as pat

from beam_fraud.records.envelopes import FRAME, opened
from beam_fraud.records.json_records import Fault, Kind, decode_json
from beam_fraud.records.message_decoders import FRAME_BYTES, Decoder, decoder_of
from beam_fraud.schema.notation import Unwrap
from beam_fraud.sources.kafka.registry import RegisteredSchema
from beam_fraud.sources.nested import steps_of
from beam_fraud.wording import first_line

#: Type: whether a column of a name may have an Arrow type.
Accepts: TypeAlias = Callable[[str, pa.DataType], bool]
#: Type: columns in the order of the names, of the valid messages; faults of the others.
Columns: TypeAlias = tuple[list[pa.Array], list[Fault]]


class Schemas(Protocol):
    """The schemas of a registry."""

    def schema(self, number: int) -> RegisteredSchema | None:
        """Return the schema of a number; None if there is none."""


@dataclass(frozen=True)
class _Reading:
    """The columns to read of records, and how."""

    #: Names of the columns, or paths to nested values.
    names: tuple[str, ...]
    #: Envelope of the records.
    unwrap: Unwrap | None
    #: Whether a column may have a type; one that may not becomes text.
    accepts: Accepts
    #: Which of the names have records and lists as absent values.
    lenient: frozenset[str] = frozenset()


def parse_framed(
    payload: Sequence[bytes | None],
    kinds: tuple[tuple[str, Kind], ...],
    unwrap: Unwrap | None,
    schemas: Schemas,
    accepts: Accepts,
) -> Columns:
    """Decode messages, each by the schema that it names; JSON without a frame as in other topics.

    Args:
      payload: n messages; None for a message without a value.
      kinds: the members to read, with their types in JSON; others are skipped.
      unwrap: envelope of the records.
      schemas: the schemas that messages name.
      accepts: whether a column may have a type; one that may not becomes text.

    Returns:
      As `decode_json`; a column of other values than JSON has the type that Arrow gives them.

    Raises:
      FraudError: the registry fails, or has a schema that cannot be used.
    """
    lenient = frozenset(name for name, kind in kinds if kind == "lenient")
    reading = _Reading(tuple(name for name, _ in kinds), unwrap, accepts, lenient)
    parts: list[tuple[list[int], Columns]] = []
    for known, rows in _by_schema(payload, schemas).items():
        of_schema = [payload[row] for row in rows]
        if isinstance(known, int):
            empty = [pa.array([], pa.string()) for _ in kinds]
            why = f"the registry has no schema {known}"
            parts.append((rows, (empty, [(row, "malformed", why) for row in range(len(rows))])))
        elif known is None:
            plain = [None if one is None else _without_frame(one) for one in of_schema]
            parts.append((rows, decode_json(plain, kinds, unwrap)))
        else:
            messages = [one for one in of_schema if one is not None]
            parts.append((rows, _columns(messages, decoder_of(known), reading)))
    return parts[0][1] if len(parts) == 1 else _together(parts, accepts, reading.names)


def _by_schema(
    payload: Sequence[bytes | None], schemas: Schemas
) -> dict[RegisteredSchema | int | None, list[int]]:
    """Return the rows of each schema: None for JSON, the number of a schema that is not there."""
    by_frame: dict[bytes | None, list[int]] = defaultdict(list)
    for row, message in enumerate(payload):
        by_frame[None if message is None else message[:FRAME_BYTES]].append(row)
    rows_of: dict[RegisteredSchema | int | None, list[int]] = defaultdict(list)
    for frame, rows in by_frame.items():
        known: RegisteredSchema | int | None = None
        if frame is not None and frame.startswith(FRAME) and len(frame) == FRAME_BYTES:
            number: int = struct.unpack_from(">I", frame, 1)[0]
            known = schemas.schema(number) or number
            if isinstance(known, RegisteredSchema) and known.form == "JSON":
                known = None
        rows_of[known] += rows
    return {known: sorted(rows) for known, rows in rows_of.items()} or {None: []}


def _without_frame(message: bytes) -> bytes:
    return message[FRAME_BYTES:] if message.startswith(FRAME) else message


def _together(
    parts: Sequence[tuple[list[int], Columns]], accepts: Accepts, names: Sequence[str]
) -> Columns:
    """Return the columns and faults of all messages, in their order."""
    faults: list[Fault] = []
    valid: list[int] = []
    for rows, (_, of_part) in parts:
        faults += [(rows[place], reason, detail) for place, reason, detail in of_part]
        faulty = {place for place, _, _ in of_part}
        valid += [row for place, row in enumerate(rows) if place not in faulty]
    order = pa.array(sorted(range(len(valid)), key=valid.__getitem__), pa.int64())
    columns = []
    for place, name in enumerate(names):
        arrays = [columns_of_part[place] for _, (columns_of_part, _) in parts]
        columns.append(
            _concatenated([one for one in arrays if len(one)], name, accepts).take(order)
        )
    return columns, sorted(faults)


def _concatenated(arrays: Sequence[pa.Array], name: str, accepts: Accepts) -> pa.Array:
    if not arrays:
        return pa.array([], pa.string())
    types = {one.type for one in arrays if one.null_count < len(one)}
    if len(types) > 1:
        values = [value for one in arrays for value in one.to_pylist()]
        return _column(values, name, accepts)
    type = next(iter(types), pa.string())
    same = [one if one.type == type else pa.nulls(len(one), type) for one in arrays]
    return pa.concat_arrays(same)


def _columns(messages: Sequence[bytes], decoder: Decoder, reading: _Reading) -> Columns:
    """Return the columns of messages of one schema."""
    try:
        read = decoder.records(messages)
    except Exception:
        read = [_record(message, decoder) for message in messages]
    if reading.unwrap is not None or not all(isinstance(record, dict) for record in read):
        read = [_opened(record, reading.unwrap) for record in read]
    refused = {row: record for row, record in enumerate(read) if isinstance(record, tuple)}
    values = _values_of([one for one in read if not isinstance(one, tuple)], reading.names)
    values = [
        [None if isinstance(value, dict | list) else value for value in column]
        if name in reading.lenient
        else column
        for name, column in zip(reading.names, values, strict=True)
    ]
    prefix = ("after",) if reading.unwrap == "debezium" else ()
    types = [decoder.time_type((*prefix, *(steps_of(n) or (n,)))) for n in reading.names]
    try:
        columns = [
            _column(column, name, reading.accepts, type)
            for column, name, type in zip(values, reading.names, types, strict=True)
        ]
    except _NestedError:
        valid = [row for row in range(len(read)) if row not in refused]
        for name, column in zip(reading.names, values, strict=True):
            for row, value in zip(valid, column, strict=True):
                if isinstance(value, dict | list):
                    refused.setdefault(row, ("wrong_type", f"{name}: a record, not a value"))
        good = [place for place, row in enumerate(valid) if row not in refused]
        columns = [
            _column([column[place] for place in good], name, reading.accepts, type)
            for column, name, type in zip(values, reading.names, types, strict=True)
        ]
    return columns, [(row, *refused[row]) for row in sorted(refused)]


def _record(message: bytes, decoder: Decoder) -> Any:
    """Return the record of a message, or a refusal."""
    try:
        return decoder.record(message)
    except Exception as error:
        return "malformed", f"not a record of its schema: {first_line(error)}"


def _opened(record: Any, unwrap: Unwrap | None) -> Any:
    if isinstance(record, tuple):
        return record
    if not isinstance(record, dict):
        return "wrong_type", "a value, not a record"
    return opened(unwrap, record)


def _values_of(records: Sequence[dict[str, Any]], names: Sequence[str]) -> list[Sequence[Any]]:
    """Return the values of each name."""
    first = records[0] if records else {}
    if len(names) > 1 and all(name in first for name in names):
        try:
            return list(zip(*map(itemgetter(*names), records), strict=True))
        except KeyError:
            pass
    columns: list[Sequence[Any]] = []
    for name in names:
        steps = steps_of(name)
        if steps is None or name in first:
            columns.append([record.get(name) for record in records])
        else:
            columns.append([_value_at(record, steps) for record in records])
    return columns


def _value_at(record: Any, steps: Sequence[str | int]) -> Any:
    value = record
    for step in steps:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = value[step] if isinstance(value, list) and step < len(value) else None
    return value


class _NestedError(Exception):
    """A column has records or lists."""


def _column(
    values: Sequence[Any], name: str, accepts: Accepts, time: pa.DataType | None = None
) -> pa.Array:
    """Return values as a column of the type that Arrow gives them; as text if they are mixed.

    Args:
      values: the values.
      name: name of the column.
      accepts: whether it may have a type.
      time: type of times that are numbers.

    Raises:
      _NestedError: there are records or lists among them.
    """
    column = None
    try:
        column = pa.array(values) if time is None else pa.array(values, pa.int64()).cast(time)
    except (pa.ArrowException, TypeError, OverflowError, UnicodeError):
        if any(isinstance(value, dict | list) for value in values):
            raise _NestedError from None
    if column is not None and pat.is_null(column.type):
        return pa.nulls(len(values), pa.string())
    if column is not None and pat.is_nested(column.type):
        raise _NestedError
    if column is not None and accepts(name, column.type):
        return column
    return pa.array(list(map(_spell, values)), pa.binary())


def _spell(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, datetime | date):
        value = value.isoformat()
    elif isinstance(value, bool):
        value = str(value).lower()
    return str(value).encode("utf-8", "surrogatepass")

"""Messages in the framing of a schema registry: Avro, Protobuf and JSON Schema.

A framed message is a zero byte, the number of its schema (four bytes, big endian) and the record;
before a record of Protobuf stands the path to its type. A message without the zero byte is JSON.
Reference: https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import struct
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from operator import itemgetter
from typing import Any, Protocol, TypeAlias

import fastavro
import pyarrow as pa
import pyarrow.types as pat
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from beam_fraud.errors import Code, FraudError
from beam_fraud.platform.wording import first_line
from beam_fraud.records.envelopes import FRAME, opened
from beam_fraud.records.json_records import Fault, Kind, decode_json
from beam_fraud.schema.notation import Unwrap
from beam_fraud.sources.kafka.registry import RegisteredSchema
from beam_fraud.sources.nested import steps_of

#: Bytes of the frame before the record.
_FRAME_BYTES = 5
#: Packages of the types that schemas of Protobuf use without a reference, by the start of a name.
_KNOWN_TYPES = {"google/": "", "confluent/": "confluent_kafka.schema_registry."}
#: Types of Protobuf that hold one value.
_WRAPPERS = tuple(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
#: Logical types of Avro that are times, and the types of their columns.
_TIMES = {
    "timestamp-millis": pa.timestamp("ms", "UTC"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
    "timestamp-nanos": pa.timestamp("ns", "UTC"),
    "local-timestamp-millis": pa.timestamp("ms"),
    "local-timestamp-micros": pa.timestamp("us"),
    "local-timestamp-nanos": pa.timestamp("ns"),
}

#: Type: whether a column of a name may have an Arrow type.
Accepts: TypeAlias = Callable[[str, pa.DataType], bool]
#: Type: columns in the order of the names, of the valid messages; faults of the others.
Columns: TypeAlias = tuple[list[pa.Array], list[Fault]]


class Schemas(Protocol):
    """The schemas of a registry."""

    def schema(self, number: int) -> RegisteredSchema | None:
        """Return the schema of a number; None if there is none."""


class _Decoder(Protocol):
    """Decodes the messages of one schema."""

    def record(self, message: bytes) -> Any:
        """Return the record of a message with its frame; raise any error for another message."""

    def records(self, messages: Sequence[bytes]) -> list[Any]:
        """Return the records of messages; raise any error if there is another message."""

    def time_type(self, path: Sequence[str | int]) -> pa.DataType | None:
        """Return the type of the times at a path if records have them as numbers, else None."""


@dataclass(frozen=True)
class _Reading:
    """What is read of records."""

    #: Names of the columns, or paths to nested values.
    names: tuple[str, ...]
    #: Envelope of the records.
    unwrap: Unwrap | None
    #: Whether a column may have a type; one that may not becomes text.
    accepts: Accepts


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
    reading = _Reading(tuple(name for name, _ in kinds), unwrap, accepts)
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
            parts.append((rows, _columns(messages, _decoder_of(known), reading)))
    return parts[0][1] if len(parts) == 1 else _together(parts, accepts, reading.names)


def _by_schema(
    payload: Sequence[bytes | None], schemas: Schemas
) -> dict[RegisteredSchema | int | None, list[int]]:
    """Return the rows of each schema: None for JSON, the number of a schema that is not there."""
    by_frame: dict[bytes | None, list[int]] = defaultdict(list)
    for row, message in enumerate(payload):
        by_frame[None if message is None else message[:_FRAME_BYTES]].append(row)
    rows_of: dict[RegisteredSchema | int | None, list[int]] = defaultdict(list)
    for frame, rows in by_frame.items():
        known: RegisteredSchema | int | None = None
        if frame is not None and frame.startswith(FRAME) and len(frame) == _FRAME_BYTES:
            number: int = struct.unpack_from(">I", frame, 1)[0]
            known = schemas.schema(number) or number
            if isinstance(known, RegisteredSchema) and known.form == "JSON":
                known = None
        rows_of[known] += rows
    return {known: sorted(rows) for known, rows in rows_of.items()} or {None: []}


def _without_frame(message: bytes) -> bytes:
    return message[_FRAME_BYTES:] if message.startswith(FRAME) else message


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


def _columns(messages: Sequence[bytes], decoder: _Decoder, reading: _Reading) -> Columns:
    """Return the columns of messages of one schema."""
    try:
        read = decoder.records(messages)
    except Exception:
        read = [_record(message, decoder) for message in messages]
    if reading.unwrap is not None or not all(isinstance(record, dict) for record in read):
        read = [_opened(record, reading.unwrap) for record in read]
    refused = {row: record for row, record in enumerate(read) if isinstance(record, tuple)}
    values = _values_of([one for one in read if not isinstance(one, tuple)], reading.names)
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


def _record(message: bytes, decoder: _Decoder) -> Any:
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


@cache
def _decoder_of(schema: RegisteredSchema) -> _Decoder:
    """Return the decoder of a schema's messages.

    Raises:
      FraudError: the schema cannot be used.
    """
    try:
        return _Avro(schema) if schema.form == "AVRO" else _Protobuf(schema)
    except FraudError:
        raise
    except Exception as error:
        raise FraudError(
            f"a schema of the registry cannot be read ({schema.form}: {first_line(error)})",
            Code.REGISTRY_REFUSED,
        ) from None


class _Avro:
    """Decodes Avro; times stay numbers, which become columns of times at once."""

    def __init__(self, schema: RegisteredSchema) -> None:
        named: dict[str, Any] = {}
        for reference in schema.references:
            fastavro.parse_schema(_without_times(json.loads(reference.text)), named_schemas=named)
        self._whole = json.loads(schema.text)
        self._types: dict[str, Any] = {}
        for text in (*(one.text for one in schema.references), schema.text):
            _add_types(json.loads(text), self._types)
        self._schema = fastavro.parse_schema(_without_times(self._whole), named_schemas=named)

    def record(self, message: bytes) -> Any:
        return self.records([message])[0]

    def records(self, messages: Sequence[bytes]) -> list[Any]:
        joined = io.BytesIO(b"".join(messages))
        read, seek, tell, schema = (
            fastavro.schemaless_reader,
            joined.seek,
            joined.tell,
            self._schema,
        )
        records, end = [], 0
        for message in messages:
            seek(end + _FRAME_BYTES)
            records.append(read(joined, schema, None))
            end += len(message)
            if tell() != end:
                raise ValueError("its length is another")
        return records

    def time_type(self, path: Sequence[str | int]) -> pa.DataType | None:
        node = self._whole
        for step in path:
            node = self._inner(node, step)
        node = self._resolved(node)
        return _TIMES.get(node.get("logicalType", "")) if isinstance(node, dict) else None

    def _resolved(self, node: Any) -> Any:
        """Return the type of a node: that of a name, or the only one of a union beside null."""
        if isinstance(node, list):
            others = [one for one in node if one != "null"]
            node = others[0] if len(others) == 1 else None
        if isinstance(node, str):
            return self._types.get(node.rpartition(".")[2], node)
        return node

    def _inner(self, node: Any, step: str | int) -> Any:
        node = self._resolved(node)
        if not isinstance(node, dict):
            return None
        if isinstance(step, int):
            return node.get("items")
        if isinstance(node.get("type"), dict | list):
            return self._inner(node["type"], step)
        return next((f["type"] for f in node.get("fields", ()) if f["name"] == step), None)


def _add_types(node: Any, types: dict[str, Any]) -> None:
    """Add the records of a schema to `types`, by their names."""
    if isinstance(node, list):
        for one in node:
            _add_types(one, types)
    elif isinstance(node, dict):
        if "fields" in node:
            types[str(node["name"]).rpartition(".")[2]] = node
            for one in node["fields"]:
                _add_types(one["type"], types)
        for key in ("items", "values", "type"):
            _add_types(node.get(key), types)


def _without_times(node: Any) -> Any:
    """Return a schema whose times are plain numbers."""
    if isinstance(node, list):
        return [_without_times(one) for one in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _without_times(value) for key, value in node.items()}
    if plain.get("logicalType") in _TIMES:
        del plain["logicalType"]
    return plain


class _Protobuf:
    """Decodes Protobuf."""

    def __init__(self, schema: RegisteredSchema) -> None:
        self._pool = DescriptorPool()
        added = set[str]()
        for reference in schema.references:
            _add_file(self._pool, reference.text, reference.name, added)
        self._file = _add_file(self._pool, schema.text, "message.proto", added)
        self._classes: dict[tuple[int, ...], type[Message]] = {}

    def record(self, message: bytes) -> Any:
        path, start = _message_path(message)
        if path not in self._classes:
            self._classes[path] = self._class_of(path)
        record = self._classes[path]()
        record.ParseFromString(message[start:])
        return _values(record)

    def records(self, messages: Sequence[bytes]) -> list[Any]:
        return list(map(self.record, messages))

    def time_type(self, path: Sequence[str | int]) -> pa.DataType | None:
        return None

    def _class_of(self, path: Sequence[int]) -> type[Message]:
        names = [self._file.package] if self._file.package else []
        types = self._file.message_type
        for index in path:
            names.append(types[index].name)
            types = types[index].nested_type
        found: type[Message] = GetMessageClass(self._pool.FindMessageTypeByName(".".join(names)))
        return found


def _add_file(pool: DescriptorPool, text: str, name: str, added: set[str]) -> FileDescriptorProto:
    """Add the file of a schema to a pool, after the types that need no reference."""
    try:
        file = FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (ValueError, DecodeError):
        raise FraudError(
            "the schema registry returns schemas of Protobuf as text only; use one that returns "
            "them serialised",
            Code.REGISTRY_REFUSED,
        ) from None
    file.name = name
    for dependency in file.dependency:
        _add_known(pool, dependency, added)
    pool.Add(file)
    return file


def _add_known(pool: DescriptorPool, name: str, added: set[str]) -> None:
    package = next((path for start, path in _KNOWN_TYPES.items() if name.startswith(start)), None)
    if package is None or name in added:
        return
    added.add(name)
    module = name.removesuffix(".proto").replace("/", ".")
    file = FileDescriptorProto.FromString(
        importlib.import_module(f"{package}{module}_pb2").DESCRIPTOR.serialized_pb
    )
    for dependency in file.dependency:
        _add_known(pool, dependency, added)
    pool.Add(file)


def _message_path(message: bytes) -> tuple[tuple[int, ...], int]:
    """Return the path to the type of a Protobuf message, and where its record starts."""
    length, place = _zigzag(message, _FRAME_BYTES)
    path = []
    for _ in range(length):
        index, place = _zigzag(message, place)
        path.append(index)
    # A single zero is short for the first type of the file.
    return tuple(path) or (0,), place


def _zigzag(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return (value >> 1) ^ -(value & 1), place
        shift += 7
        if shift > 63:
            raise ValueError("the path to the message's type is too long")


def _values(message: Message) -> dict[str, Any]:
    """Return the members of a message; an absent one is None, if its type tells absence."""
    return {
        field.name: _value(message, field)
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _value(message: Message, field: FieldDescriptor) -> Any:
    value = getattr(message, field.name)
    if field.is_repeated:
        if field.message_type is None:
            return list(value)
        if field.message_type.GetOptions().map_entry:
            return {str(key): _scalar(one, field) for key, one in value.items()}
        return [_of_message(one) for one in value]
    return _scalar(value, field)


def _scalar(value: Any, field: FieldDescriptor) -> Any:
    if isinstance(value, Message):
        return _of_message(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    return value


def _of_message(value: Message) -> Any:
    descriptor: Descriptor = value.DESCRIPTOR
    if descriptor.full_name == "google.protobuf.Timestamp":
        return value.ToDatetime(tzinfo=UTC)
    if descriptor.full_name in _WRAPPERS:
        return value.value
    return _values(value)

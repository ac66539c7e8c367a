"""Decoders of the messages of a schema registry: Avro by fastavro, Protobuf by its own library."""

from __future__ import annotations

import base64
import importlib
import io
import json
from collections.abc import Sequence
from datetime import UTC
from functools import cache
from typing import Any, Protocol

import fastavro
import pyarrow as pa
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from beam_fraud.errors import Code, FraudError
from beam_fraud.sources.kafka.registry import RegisteredSchema
from beam_fraud.wording import first_line

#: Bytes of the frame before the record.
FRAME_BYTES = 5
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


class Decoder(Protocol):
    """Decodes the messages of one schema."""

    def record(self, message: bytes) -> Any:
        """Return the record of a message with its frame; raise any error for another message."""

    def records(self, messages: Sequence[bytes]) -> list[Any]:
        """Return the records of messages; raise any error if there is another message."""

    def time_type(self, path: Sequence[str | int]) -> pa.DataType | None:
        """Return the type of the times at a path if records have them as numbers, else None."""


@cache
def decoder_of(schema: RegisteredSchema) -> Decoder:
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
            seek(end + FRAME_BYTES)
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
    length, place = _zigzag(message, FRAME_BYTES)
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

"""Avro schemas: as Arrow types, and with every value as it is stored."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa

#: Part of a schema: a name, a union or an object.
_Node: TypeAlias = Any
#: Named types by full name; None while one is read.
_Named: TypeAlias = dict[str, Any]
#: Maximum depth of types in types.
_DEPTH = 32
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_PRIMITIVES = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int64(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
}
_LOGICAL = {
    ("int", "date"): pa.date32(),
    ("int", "time-millis"): pa.time32("ms"),
    ("long", "time-micros"): pa.time64("us"),
    **{
        ("long", f"{local}timestamp-{unit}s"): pa.timestamp(short, None if local else "UTC")
        for local in ("", "local-")
        for unit, short in (("milli", "ms"), ("micro", "us"), ("nano", "ns"))
    },
}
_LARGEST_PRECISION = 76


class UnreadableTypeError(ValueError):
    """A valid schema with a type that is not read."""


@lru_cache(maxsize=8)
def arrow_schema(schema: bytes) -> pa.Schema:
    """Return the columns of a record's schema.

    Raises:
      UnreadableTypeError: a type is none that can be read, or contains itself.
      ValueError: it is no schema.
    """
    node = _decoded(schema)
    if not isinstance(node, dict) or node.get("type") != "record":
        raise UnreadableTypeError("its rows are no records")
    return pa.schema(list(_arrow(node, {}, "", 0)))


def _decoded(schema: bytes) -> _Node:
    try:
        return msgspec.json.decode(schema)
    except msgspec.DecodeError as error:
        raise ValueError(f"its schema is no JSON: {error}") from None


def _arrow(node: _Node, named: _Named, space: str, depth: int) -> pa.DataType:
    if depth > _DEPTH:
        raise ValueError(f"its schema is over {_DEPTH} deep")
    if isinstance(node, list):
        return _union([_arrow(branch, named, space, depth + 1) for branch in node])
    if isinstance(node, str):
        return _reference(node, named, space)
    if not isinstance(node, dict):
        raise ValueError("its schema has a type that is none")
    kind = node.get("type")
    if isinstance(kind, (dict, list)):
        return _arrow(kind, named, space, depth + 1)
    if kind in ("record", "error", "enum", "fixed"):
        full, space = _full_name(node, space)
        named[full] = None
        named[full] = type = _named(kind, node, named, space, depth)
        return type
    if kind == "array":
        return pa.list_(_arrow(node.get("items"), named, space, depth + 1))
    if kind == "map":
        return pa.map_(pa.string(), _arrow(node.get("values"), named, space, depth + 1))
    if not isinstance(kind, str):
        raise ValueError("its schema has a type that is none")
    plain = _reference(kind, named, space)
    if node.get("logicalType") == "decimal" and kind == "bytes":
        return _decimal(node, plain)
    return _LOGICAL.get((kind, str(node.get("logicalType"))), plain)


def _named(kind: str, node: _Node, named: _Named, space: str, depth: int) -> pa.DataType:
    if kind == "enum":
        return pa.string()
    if kind == "fixed":
        size = node.get("size")
        if not isinstance(size, int) or size < 1:
            raise ValueError("its schema has a type of no size")
        return _decimal(node, pa.binary()) if node.get("logicalType") == "decimal" else pa.binary()
    fields = [
        pa.field(str(field["name"]), _arrow(field.get("type"), named, space, depth + 1))
        for field in node.get("fields", [])
    ]
    if not fields:
        raise ValueError("its schema has a record without fields")
    return pa.struct(fields)


def _full_name(node: _Node, space: str) -> tuple[str, str]:
    """Return the full name of a type, and the namespace of those within."""
    name = str(node.get("name"))
    if not _NAME.fullmatch(name):
        raise ValueError("its schema has a name that is none")
    if "." not in name:
        space = str(node.get("namespace", space) or "")
        name = f"{space}.{name}" if space else name
    return name, name.rpartition(".")[0]


def _reference(name: str, named: _Named, space: str) -> pa.DataType:
    if name in _PRIMITIVES:
        return _PRIMITIVES[name]
    for full in (f"{space}.{name}", name):
        if full in named:
            if named[full] is None:
                raise UnreadableTypeError(f"its type {full} contains itself; write rows without it")
            return named[full]
    raise ValueError(f"its schema has no type {name!a:.40}")


def _decimal(node: _Node, plain: pa.DataType) -> pa.DataType:
    precision, scale = node.get("precision"), node.get("scale", 0)
    if not isinstance(precision, int) or not isinstance(scale, int):
        return plain
    if not 0 <= scale <= precision or not 1 <= precision <= _LARGEST_PRECISION:
        # As the specification says of invalid logical types.
        return plain
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def _union(branches: list[pa.DataType]) -> pa.DataType:
    """Return the type of all values: numbers, structs of all fields, or text."""
    types = list(dict.fromkeys(t for t in branches if not pa.types.is_null(t)))
    if len(types) < 2:
        return types[0] if types else pa.null()
    if all(pa.types.is_integer(t) or pa.types.is_floating(t) for t in types):
        return pa.float64()
    if all(pa.types.is_struct(t) for t in types):
        fields: dict[str, list[pa.DataType]] = {}
        for type in types:
            for field in type:
                fields.setdefault(field.name, []).append(field.type)
        return pa.struct([pa.field(name, _union(of)) for name, of in fields.items()])
    return pa.string()


def plain_schema(schema: bytes) -> _Node:
    """Return the schema with dates, times and decimals as stored, and strings as bytes.

    Raises:
      ValueError: it is no schema.
    """
    return _plain(_decoded(schema))


def _plain(node: _Node) -> _Node:
    if node == "string":
        return "bytes"
    if isinstance(node, list):
        branches = [_plain(branch) for branch in node]
        # A union has each type once.
        if branches.count("bytes") < 2:
            return branches
        return [b if b == "string" else p for b, p in zip(node, branches, strict=True)]
    if not isinstance(node, dict):
        return node
    kind = node.get("type")
    kept = {key: node[key] for key in ("name", "namespace", "symbols", "size") if key in node}
    if kind == "record" or kind == "error":
        fields = [
            {"name": field["name"], "type": _plain(field["type"])} for field in node["fields"]
        ]
        return {"type": "record", **kept, "fields": fields}
    if kind == "array":
        return {"type": "array", "items": _plain(node["items"])}
    if kind == "map":
        return {"type": "map", "values": _plain(node["values"])}
    if kind in ("enum", "fixed"):
        return {"type": kind, **kept}
    return _plain(kind)

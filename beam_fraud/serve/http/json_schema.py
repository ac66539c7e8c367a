"""The JSON Schema of a transaction of a bundle, and an example that scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, TypeAlias

from beam_fraud.records.identifiers import MAX_BYTES
from beam_fraud.records.json_records import Kind, kinds_of
from beam_fraud.schema.notation import (
    EXCEL,
    EXCEL_ORIGIN,
    ISO_8601,
    MICROS,
    RFC_2822,
    NumberNotation,
    TimeNotation,
)
from beam_fraud.schema.schema import ID_ROLES, Labels, Schema
from beam_fraud.serve.feature_records import FeatureRecords
from beam_fraud.sources.nested import Steps, steps_of

#: Type: a value of JSON.
Json: TypeAlias = Any
#: The time of the example.
_AT = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
#: JSON types by kind, null last.
_TYPES: dict[Kind, list[str]] = {
    "identifier": ["string", "integer", "null"],
    "exact": ["string", "integer", "null"],
    "measure": ["number", "string", "null"],
    "number": ["number", "boolean", "string", "null"],
    "category": ["string", "integer", "boolean", "null"],
}
_MEANINGS = {
    "transaction_id": "Identifier of the transaction, the idempotency key: the same one again "
    "gets the same answer and changes nothing.",
    "event_time": "Time of the transaction.",
    "account_id": "Identifier of the account or card.",
    "merchant_id": "Identifier of the merchant or terminal.",
    "amount": "Amount of the transaction.",
    "currency": "Code of the currency (ISO 4217), in letters or digits.",
    "label": "Whether the transaction is fraud, if that is known already.",
    "labelled_at": "Time at which the label was known.",
}
_EXAMPLES = {
    "transaction_id": "T1000001",
    "account_id": "A1001",
    "merchant_id": "M2002",
    "currency": "EUR",
}


@dataclass(frozen=True)
class Typical:
    """Usual values of a bundle's features, for the example."""

    #: Feature to a number.
    numbers: Mapping[str, float] = field(default_factory=dict)
    #: Categorical column to its known values.
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Column:
    name: str
    schema: dict[str, Json]
    example: Json
    required: bool


def transaction_schema(schema: Schema, labels: Labels, typical: Typical) -> dict[str, Json]:
    """Return the JSON Schema of one transaction, with an example.

    Args:
      schema: the schema that transactions are read by.
      labels: treatment of labels.
      typical: values for the example.

    Returns:
      An object with a member for each column; members with a path (`card.number`) are nested.
      Further members are allowed and ignored.
    """
    columns = _columns(schema, labels, typical)
    root = _object()
    root["description"] = (
        f"A transaction of the schema {schema.name}. Other members are allowed and ignored."
    )
    example: dict[str, Json] = {}
    named = {column.name for column in columns}
    for column in columns:
        steps = steps_of(column.name)
        if steps is None or steps[0] in named:
            steps = (column.name,)
        _put(root, steps, column)
        if column.required or column.example is not None:
            _set(example, steps, column.example)
    if schema.source.unwrap == "debezium":
        root, example = _in_debezium(root), {"op": "c", "before": None, "after": example}
    elif schema.source.unwrap == "cloudevents":
        root, example = _in_cloud_event(root), _cloud_event(example)
    return {**root, "examples": [example]}


def features_schema(records: FeatureRecords, typical: Typical) -> dict[str, Json]:
    """Return the JSON Schema of a record of features, with an example that scores.

    Args:
      records: what reads them.
      typical: values for the example.
    """
    root = _object()
    root["description"] = (
        "The features of the model. Without ids and times it is scored and not recorded."
    )
    example: dict[str, Json] = {}
    for name, column in records.inputs.items():
        numeric = column.kind == "numeric"
        types = ["number", "boolean"] if numeric else ["string", "integer"]
        required = column.missing == "reject"
        value = typical.numbers.get(name, 0.0) if numeric else "other"
        if known := typical.categories.get(name, ()):
            value = known[0]
        described = {"type": types if required else [*types, "null"], "examples": [value]}
        _put(root, (name,), _Column(name, described, value, required))
        example[name] = value
    return {**root, "examples": [example]}


def _object() -> dict[str, Json]:
    return {"type": "object", "properties": {}, "additionalProperties": True}


def _columns(schema: Schema, labels: Labels, typical: Typical) -> list[_Column]:
    roles = {part: role for role, name in schema.roles.items() for part in schema.parts(name)}
    features = {feature.column: feature for feature in schema.features}
    columns = []
    for name, kind in kinds_of(schema, labels=labels):
        role, feature = roles.get(name), features.get(name)
        described: dict[str, Json] = {"type": list(_TYPES[kind])}
        required, example = False, None
        if role is not None:
            described["description"] = _MEANINGS[role]
            required, example = _of_role(schema, role, name, described)
        if feature is not None:
            text = f"A {feature.kind} feature of the model."
            described["description"] = f"{described.get('description', '')} {text}".strip()
            required |= feature.missing == "reject"
            if role is None:
                example = _feature_example(name, schema, typical, feature.kind == "numeric")
        elif role is None:
            described["description"] = "A key of velocity features."
            example = "K3003"
        if required:
            described["type"].remove("null")
        if example is not None:
            described["examples"] = [example]
        columns.append(_Column(name, described, example, required))
    return columns


def _of_role(schema: Schema, role: str, name: str, described: dict[str, Json]) -> tuple[bool, Json]:
    """Describe a column with a role; return whether it is required, and an example."""
    if role in ("event_time", "labelled_at"):
        described["description"] += f" {_time_forms(schema)}"
        example = None
        if role == "event_time":
            parts = schema.parts(schema.roles[role])
            example = _time_part(_time(schema.time), parts.index(name), len(parts))
        return role == "event_time", example
    if role == "amount":
        notation = schema.notation_of(name)
        described["description"] += _amount_words(notation, schema)
        if not schema.allow_negative:
            described["minimum"] = 0
        return True, _number(49.9, notation)
    if role == "currency":
        # The only currency that needs no rate of a day.
        into = schema.conversion and schema.conversion.to
        return schema.conversion is not None, into or _EXAMPLES[role]
    if role in ID_ROLES:
        described["maxLength"] = MAX_BYTES
        prefix = schema.ids[role].prefix if role in schema.ids else ""
        return role not in schema.optional, prefix + _EXAMPLES[role]
    return False, None


def _feature_example(name: str, schema: Schema, typical: Typical, numeric: bool) -> Json:
    if numeric:
        return _number(typical.numbers.get(name, 0.0), schema.notation_of(name))
    known = typical.categories.get(name, ())
    return known[0] if known else "other"


def _number(value: float, notation: NumberNotation) -> Json:
    if notation.unit == "minor":
        value = round(value * 100)
    return value


def _amount_words(notation: NumberNotation, schema: Schema) -> str:
    words = " In the smallest unit of its currency." if notation.unit == "minor" else ""
    if notation.decimal != ".":
        words += f" Text has the decimal mark {notation.decimal!r}."
    if schema.conversion is not None:
        words += f" Converted to {schema.conversion.to}."
    return words


def _time_forms(schema: Schema) -> str:
    notation = schema.time
    if notation.forms:
        return f"Written as {' or '.join(notation.forms)}."
    if notation.unit is not None or notation.origin is not None:
        origin = notation.origin or "1970"
        return f"A number in {notation.unit or 's'} since {origin}, or ISO 8601."
    return "ISO 8601, or a number since 1970 in seconds to nanoseconds by its size."


def _time(notation: TimeNotation) -> Json:
    """Return the example's time as a notation writes it."""
    form = notation.forms[0] if notation.forms else None
    if form == RFC_2822:
        return format_datetime(_AT)
    if form == EXCEL:
        days = _AT - datetime.fromisoformat(EXCEL_ORIGIN).replace(tzinfo=UTC)
        return days.total_seconds() / 86_400
    if form is not None and form != ISO_8601:
        return _AT.strftime(form)
    if form is None and (notation.unit is not None or notation.origin is not None):
        micros = int(_AT.timestamp()) * MICROS["s"] - notation.origin_micros
        return micros // MICROS[notation.unit or "s"]
    return _AT.isoformat().replace("+00:00", "Z")


def _time_part(time: Json, part: int, parts: int) -> Json:
    """Return a part of a time that several columns hold, joined by a space."""
    if parts == 1:
        return time
    texts = str(time).replace("T", " ").split(" ", parts - 1)
    return texts[part] if part < len(texts) else None


def _put(root: dict[str, Json], steps: Steps, column: _Column) -> None:
    """Add the schema of a column at its path."""
    node = root
    for here, after in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(here, int):
            if after is None:
                node["items"] = column.schema
                return
            node = node.setdefault("items", _inner(after))
            continue
        if column.required:
            required = node.setdefault("required", [])
            if here not in required:
                required.append(here)
        if after is None:
            node["properties"][here] = column.schema
            return
        node = node["properties"].setdefault(here, _inner(after))


def _inner(after: str | int) -> dict[str, Json]:
    return {"type": "array"} if isinstance(after, int) else _object()


def _set(example: Json, steps: Steps, value: Json) -> None:
    """Put a value at its path, with the objects and arrays around it."""
    node = example
    for here, after in zip(steps, [*steps[1:], None], strict=True):
        inner = value if after is None else [] if isinstance(after, int) else {}
        if isinstance(here, int):
            while len(node) <= here:
                node.append(None)
            if node[here] is None:
                node[here] = inner
        elif after is None:
            node[here] = inner
        else:
            node.setdefault(here, inner)
        node = node[here]


def _in_debezium(record: dict[str, Json]) -> dict[str, Json]:
    return {
        "type": "object",
        "description": "A change of a row by Debezium; inserted rows are transactions.",
        "properties": {"op": {"type": "string", "enum": ["c", "r"]}, "after": record},
        "required": ["op", "after"],
        "additionalProperties": True,
    }


def _in_cloud_event(record: dict[str, Json]) -> dict[str, Json]:
    return {
        "type": "object",
        "description": "A CloudEvent around a transaction.",
        "properties": {"specversion": {"type": "string"}, "data": record},
        "required": ["specversion", "data"],
        "additionalProperties": True,
    }


def _cloud_event(data: dict[str, Json]) -> dict[str, Json]:
    return {
        "specversion": "1.0",
        "id": "1",
        "source": "/example",
        "type": "transaction",
        "data": data,
    }

"""Decode JSON records of files and messages to columns."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
from msgspec.structs import astuple

from beam_fraud.records.composites import composite_times
from beam_fraud.records.envelopes import (
    FRAME,
    FRAMED,
    TOMBSTONE,
    Opener,
    Refusal,
    envelope_type,
    opener_of,
)
from beam_fraud.records.json_members import Members, members, value_at
from beam_fraud.records.times import as_times
from beam_fraud.schema.notation import TimeNotation, Unwrap
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.file_format import BYTE_ORDER_MARK

_TEXT = pa.string()
#: Type: position of a record, reason and detail.
Fault: TypeAlias = tuple[int, str, str]
#: JSON types of an identifier, an amount or time, and a feature or label; `lenient` is a text of
#: which anything else is absent.
Kind = Literal["identifier", "exact", "measure", "number", "category", "lenient"]
_KINDS: dict[Kind, Any] = {
    "identifier": str | int | float | None,
    "exact": str | int | None,
    "measure": float | int | str | None,
    "number": float | int | bool | str | None,
    "category": str | int | bool | None,
    # As written, so that no value of it makes a record a fault.
    "lenient": msgspec.Raw,
}
_MEASURES = ("event_time", "amount", "labelled_at")
#: Records converted together: their values stay in the processor's cache, and an invalid one causes
#: only these to be decoded one by one.
_AT_A_TIME = 256
#: Whole numbers from which a float has lost digits.
_EXACT = 2.0**53
#: Errors about a message, not about the program.
_UNDECODABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
_NO_NUMBER = re.compile(rb"\b(?:NaN|Infinity)\b")
#: Text that validation refuses as an id: it is not UTF-8.
_NO_ID = "\udcff"
_PATH = re.compile(r" - at `\$\.([^`]+)`$")


def decode_json(
    payload: Sequence[bytes | None],
    kinds: tuple[tuple[str, Kind], ...],
    unwrap: Unwrap | None = None,
) -> tuple[list[pa.Array], list[Fault]]:
    """Decode one JSON object per record.

    Each record is decoded separately: joined to one list they take a fifth less time, but an
    unclosed record could reach into the next.

    Args:
      payload: n records; None for a message without a value.
      kinds: the members to read, with their types; others are skipped.
      unwrap: envelope of the records.

    Returns:
      The columns, in the order of `kinds`, of the m valid records; and for each of the others its
      position in `payload`, a reason and a detail.
    """
    decoding = _decoding(kinds, unwrap)
    faults: list[Fault] = []
    columns: list[list[Any]] = [[] for _ in kinds]
    for start in range(0, len(payload), _AT_A_TIME):
        records = _records(payload[start : start + _AT_A_TIME], decoding, faults, start)
        for column, values in zip(columns, zip(*map(astuple, records), strict=True), strict=False):
            column.extend(values)
        for place, steps in decoding.members.nested:
            _add_nested(columns[place], [value_at(record, steps) for record in records])
    return [
        column_of(values, kind) for values, (_, kind) in zip(columns, kinds, strict=True)
    ], faults


def _add_nested(column: list[Any], nested: Sequence[Any]) -> None:
    """Replace absent values at a column's end by those at its path."""
    start = len(column) - len(nested)
    for place, value in enumerate(nested, start):
        if column[place] is None:
            column[place] = value


@dataclass(frozen=True)
class _Decoding:
    """How messages are decoded to records with some members."""

    #: Decoder of messages: of records, or of their envelopes.
    decoder: msgspec.json.Decoder[Any]
    #: Opens envelopes; None without them.
    opener: Opener | None
    #: Type of the records.
    members: Members
    #: Type of values with NaN or Infinity, which are not read from the text.
    tolerant: Any


@lru_cache(maxsize=16)
def _decoding(kinds: tuple[tuple[str, Kind], ...], unwrap: Unwrap | None) -> _Decoding:
    """Return the decoding of objects with these members, all optional."""
    known = members(tuple(name for name, _ in kinds), tuple(_KINDS[kind] for _, kind in kinds))
    types = tuple(Any if kind == "lenient" else _KINDS[kind] for _, kind in kinds)
    tolerant = members(tuple(name for name, _ in kinds), types).type
    plain = msgspec.json.Decoder(known.type)
    if unwrap is None:
        return _Decoding(plain, None, known, tolerant)
    enveloped = msgspec.json.Decoder(envelope_type(unwrap, known.type))
    opener = opener_of(unwrap, partial(_decode, decoder=plain, tolerant=tolerant))
    return _Decoding(enveloped, opener, known, envelope_type(unwrap, tolerant))


def _records(
    payload: Sequence[bytes | None], decoding: _Decoding, faults: list[Fault], start: int
) -> list[Any]:
    """Return the valid records from position `start` on; add the faults of the others."""
    decode, opener = decoding.decoder.decode, decoding.opener
    read: list[Any]
    try:
        read = [decode(message) for message in payload]  # type: ignore[arg-type]
        if opener is None:
            return read
        read = opener(read, payload)  # type: ignore[arg-type]
    except (*_UNDECODABLE, TypeError):
        read = [_record(message, decoding) for message in payload]
    if tuple not in set(map(type, read)):
        return read
    refused = [row for row, record in enumerate(read) if isinstance(record, tuple)]
    faults += [(start + row, *read[row]) for row in refused]
    return [record for record in read if not isinstance(record, tuple)]


def _record(message: bytes | None, decoding: _Decoding) -> Any:
    """Return the record of a message, or a refusal."""
    if message is None:
        return TOMBSTONE, "a message without a value"
    # A byte order mark of a file or message is not part of the record.
    message = message.removeprefix(BYTE_ORDER_MARK)
    try:
        record = _decode(message, decoding.decoder, decoding.tolerant)
        return record if decoding.opener is None else decoding.opener([record], [message])[0]
    except msgspec.ValidationError as error:
        return _no_object(message) or ("wrong_type", _explain(str(error)))
    except _UNDECODABLE as error:
        return _no_object(message) or ("malformed", f"not a JSON object: {error}")


def _no_object(message: bytes) -> Refusal | None:
    """Return why a message is no object by its first character, else None."""
    if message.startswith(FRAME) and any(message[1:5]):
        return FRAMED, "framed by a schema registry, which --schema-registry URL reads"
    if message.lstrip().startswith(b'"'):
        return "wrong_type", "a text, not an object (was the record encoded twice?)"
    return None


def _decode(message: bytes, decoder: msgspec.json.Decoder[Any], tolerant: Any) -> Any:
    """Decode a record; NaN and Infinity, which are no JSON but frequent, are numbers in it."""
    try:
        return decoder.decode(message)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        try:
            return msgspec.convert(tolerant_json(message), tolerant)
        except ValueError:
            pass
        raise


def tolerant_json(message: bytes) -> Any:
    """Decode JSON with NaN or Infinity in it; ValueError if there is none of them."""
    # The pattern alone takes 15 ms for each megabyte.
    absent = b"NaN" not in message and b"Infinity" not in message
    if absent or not _NO_NUMBER.search(message):
        raise ValueError
    return json.loads(message)


def _explain(error: str) -> str:
    """Return the decoder's message, the column first."""
    path = _PATH.search(error)
    return f"{path[1]}: {error[: path.start()]}" if path else error


def kinds_of(schema: Schema, *, labels: Labels) -> tuple[tuple[str, Kind], ...]:
    """Return each column to read with its type."""
    kinds: dict[str, Kind] = dict.fromkeys(schema.key_columns, "category")
    for feature in schema.features:
        text: Kind = "lenient" if feature.lenient else "category"
        kinds[feature.column] = "number" if feature.kind == "numeric" else text
    for role, column in schema.roles.items():
        for part in schema.parts(column):
            if role == "label":
                kinds[part] = "number"
            elif role in _MEASURES:
                kinds[part] = "measure"
            else:
                kinds[part] = "identifier" if schema.reading >= 2 else "exact"
    return tuple((column, kinds[column]) for column in schema.columns(labels=labels))


def column_of(values: list[Any], kind: Kind) -> pa.Array:
    """Return values of JSON as a column; as text if they are of several types."""
    if kind == "lenient":
        values = [lenient_text(value) for value in values]
    for convert in _CONVERSIONS[kind]:
        try:
            return convert(values)
        except (pa.ArrowException, TypeError, OverflowError, UnicodeError):
            pass
    numeric = kind in ("measure", "number")
    if kind == "identifier":
        values = [_exact(value) for value in values]
    return pa.array([_spell(value, numeric) for value in values], pa.binary())


def lenient_text(value: Any) -> str | None:
    """Return a value, or a `msgspec.Raw`, as text: a text, a whole number or a boolean, else None.

    Example:
      >>> [lenient_text(value) for value in ("a", 12, 12.0, 3.5, True, ["a"], None)]
      ['a', '12', '12', None, 'true', None, None]
    """
    try:
        if isinstance(value, msgspec.Raw):
            value = msgspec.json.decode(value)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, float):
            return str(int(value)) if value.is_integer() and abs(value) < _EXACT else None
        return str(value) if isinstance(value, str | int) else None
    except (*_UNDECODABLE, ValueError):
        # It is not UTF-8, or too large a number.
        return None


def _exact(value: Any) -> Any:
    """Return a whole float as an integer, and any other as text that is no id."""
    if not isinstance(value, float):
        return value
    return int(value) if value.is_integer() and abs(value) < _EXACT else _NO_ID


def _floats(values: list[Any]) -> pa.Array:
    """Convert numbers alone, five times as fast as Arrow does."""
    return pa.array(np.frombuffer(array("d", values)))


def _integers(values: list[Any]) -> pa.Array:
    """Return the same for integers, as text."""
    return pa.array(np.frombuffer(array("q", values), dtype=np.int64)).cast(_TEXT)


def _text(values: list[Any]) -> pa.Array:
    return pa.array(values, _TEXT)


def _numbers(values: list[Any]) -> pa.Array:
    return pa.array(values, pa.float64())


#: Conversions to try in order; each refuses at the first value of another type.
_CONVERSIONS: dict[Kind, tuple[Callable[[list[Any]], pa.Array], ...]] = {
    "identifier": (_text, _integers),
    "exact": (_text, _integers),
    "category": (_text,),
    "lenient": (_text,),
    "measure": (_floats, _numbers, _text),
    "number": (_floats, _numbers),
}


def _spell(value: float | str | None, numeric: bool) -> bytes | None:
    """Return a value as text that reads back as the same number, or as Arrow spells booleans."""
    if value is None:
        return None
    if isinstance(value, bool):
        value = int(value) if numeric else str(value).lower()
    text = value if isinstance(value, str) else repr(value)
    return text.encode("utf-8", "surrogatepass")


#: Type: decodes messages as `decode_json` does.
Decode: TypeAlias = Callable[
    [Sequence[bytes | None], tuple[tuple[str, Kind], ...], Unwrap | None],
    tuple[list[pa.Array], list[Fault]],
]
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


def records_of_array(message: bytes | None) -> list[bytes]:
    """Return the records of a message that is an array; none of any other message."""
    if message is None or not message.startswith(b"["):
        return []
    try:
        return [bytes(record) for record in _ARRAY.decode(message)]
    except _UNDECODABLE:
        pass
    try:
        return [json.dumps(record).encode() for record in tolerant_json(message)]
    except (ValueError, RecursionError):
        return []


@dataclass(frozen=True)
class NewestEvent:
    """Find the newest event time of records of a schema."""

    #: Column of the event time.
    column: str
    #: Time from which numbers count; only in what an earlier version left.
    time_origin: str | None = None
    #: The schema of the records; None in what an earlier version left.
    schema: Schema | None = None
    #: Decodes messages that are not all JSON; None if all are.
    decode: Decode | None = None

    @classmethod
    def of(cls, schema: Schema, decode: Decode | None = None) -> NewestEvent:
        """Return the finder for records of `schema`."""
        # A schema requires an amount; it is unused here, so it may be the same column.
        column = schema.roles["event_time"]
        roles = {"event_time": column, "amount": column}
        composites = {name: parts for name, parts in schema.composites.items() if name == column}
        return cls(
            column,
            schema=Schema(
                "event time",
                roles,
                timezone=schema.timezone,
                time=schema.time,
                composites=composites,
                source=schema.source,
            ),
            decode=decode,
        )

    def __call__(self, payloads: Sequence[bytes | None]) -> int | None:
        """Return the newest time in n JSON records, in microseconds; None if none can be read.

        Example:
          >>> NewestEvent("at")([b'{"at": 1, "x": 2}', b"rubbish", b'{"at": 3}'])
          3000000
        """
        schema = self.schema
        if schema is None:
            roles = {"event_time": self.column, "amount": self.column}
            schema = Schema("event time", roles, time=TimeNotation(origin=self.time_origin))
        kinds = kinds_of(schema, labels="ignored")
        parts, _ = (self.decode or decode_json)(payloads, kinds, schema.source.unwrap)
        times = parts[0] if len(parts) == 1 else composite_times(parts)
        read = as_times(times, schema.time, schema.timezone)
        good = ~(read.absent | read.unreadable | read.impossible)
        return int(read.micros[good].max()) if good.any() else None

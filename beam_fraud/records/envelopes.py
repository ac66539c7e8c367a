"""Envelopes around records: changes of a table by Debezium, and CloudEvents."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from beam_fraud.schema.notation import Unwrap

#: Reasons of records that are no transactions and no dead letters: a row was deleted, or changed
#: after it was inserted.
TOMBSTONE, CORRECTION = "tombstone", "correction"
SKIPPED = (TOMBSTONE, CORRECTION)
#: Reason of a record in an envelope that the schema does not name, or in a registry's framing.
ENVELOPED, FRAMED = "enveloped", "framed"
#: First byte of a message in the framing of a schema registry; no JSON begins with it.
FRAME = b"\x00"

#: Type: reason and detail of a record that is no transaction.
Refusal: TypeAlias = tuple[str, str]
#: Type: returns the record in each of some envelopes, or a refusal.
#:
#: Args: the envelopes; the messages that they were decoded from.
Opener: TypeAlias = Callable[[Sequence[Any], Sequence[bytes]], list[Any]]

_INSERTS, _DELETES = ("c", "r"), ("d", "t")
_DELETED: Refusal = (TOMBSTONE, "the row was deleted")
_CHANGED: Refusal = (CORRECTION, "the row was changed after its insertion")


def envelope_type(unwrap: Unwrap, record: Any) -> Any:
    """Return the type of an envelope around records of a type.

    Args:
      unwrap: the envelope.
      record: type of the record, for msgspec.
    """
    if unwrap == "cloudevents":
        data = ("data", record | None | msgspec.UnsetType, msgspec.UNSET)
        fields = [("specversion", str | None, None), data, ("data_base64", str | None, None)]
        return msgspec.defstruct("CloudEvent", fields, gc=False)
    change = msgspec.defstruct("Change", _change_fields(record), gc=False)
    payload = ("payload", change | None | msgspec.UnsetType, msgspec.UNSET)
    return msgspec.defstruct("Debezium", [payload, *_change_fields(record)], gc=False)


def _change_fields(record: Any) -> list[tuple[str, Any, Any]]:
    return [("op", str | None, None), ("after", record | None, None)]


def opener_of(unwrap: Unwrap, decode: Callable[[bytes], Any]) -> Opener:
    """Return the function that opens envelopes of `envelope_type`.

    Args:
      unwrap: the envelope.
      decode: decodes a record without an envelope.
    """
    if unwrap == "debezium":
        return _open_debezium
    return lambda events, messages: [
        _open_cloud_event(event, message, decode)
        for event, message in zip(events, messages, strict=True)
    ]


def _open_debezium(envelopes: Sequence[Any], _: Sequence[bytes]) -> list[Any]:
    records: list[Any] = []
    for envelope in envelopes:
        change = envelope if envelope.payload is msgspec.UNSET else envelope.payload
        if change is None:
            # The form of a tombstone with a schema part.
            records.append(_DELETED)
        elif change.op in _INSERTS and change.after is not None:
            # Most are insertions: a call for each takes a twentieth of the time of reading.
            records.append(change.after)
        else:
            records.append(_change_of(change.op, change.after))
    return records


def _change_of(op: str | None, after: Any) -> Any:
    """Return the inserted row of a change, or the refusal of another change.

    Args:
      op: `c` and `r` for inserted and existing rows, `u` for changed, `d` and `t` for deleted ones.
      after: the row after the change.
    """
    if op in _INSERTS:
        return ("malformed", "a Debezium insertion without after") if after is None else after
    if op == "u":
        return _CHANGED
    if op in _DELETES:
        return _DELETED
    return "malformed", f"no change of a row by Debezium: op is {op!r}"


def _open_cloud_event(event: Any, message: bytes, decode: Callable[[bytes], Any]) -> Any:
    if event.specversion is None:
        # In binary mode the attributes are headers, and the message is the record.
        return decode(message)
    if event.data_base64 is not None:
        try:
            return decode(base64.b64decode(event.data_base64, validate=True))
        except (binascii.Error, ValueError):
            return "malformed", "data_base64 of a CloudEvent is no base64"
    if event.data is msgspec.UNSET or event.data is None:
        return "malformed", "a CloudEvent without data"
    return event.data


def opened(unwrap: Unwrap | None, values: Mapping[str, Any]) -> Any:
    """Return the record in an envelope that was decoded to a mapping, or a refusal."""
    if unwrap == "debezium":
        change = values.get("payload", values)
        if change is None:
            return _DELETED
        return _change_of(change.get("op"), change.get("after"))
    if unwrap == "cloudevents" and "specversion" in values:
        data = values.get("data")
        return data if isinstance(data, Mapping) else ("malformed", "a CloudEvent without data")
    return values


_DEBEZIUM = re.compile(rb'"op"\s*:\s*"[crudt]"')
_CLOUD_EVENT = re.compile(rb'"specversion"\s*:')


def unopened(payload: bytes) -> Refusal | None:
    """Return why a record without its columns is none: the envelope that it is in; else None."""
    if _DEBEZIUM.search(payload) and b'"after"' in payload:
        return ENVELOPED, 'a change by Debezium: unwrap = "debezium" under [source] opens it'
    if _CLOUD_EVENT.search(payload):
        return ENVELOPED, 'a CloudEvent: unwrap = "cloudevents" under [source] opens it'
    return None

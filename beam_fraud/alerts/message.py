"""A message of a channel, and its JSON."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal

import msgspec

from beam_fraud.alerts.alert import Alert

#: All fields of an alert.
FIELDS = tuple(field.name for field in fields(Alert))
_ENCODER = msgspec.json.Encoder()


def chosen_fields(alert: Alert, names: tuple[str, ...] = FIELDS) -> dict[str, object]:
    """Return the fields `names` of an alert, in the order of `names`."""
    return {name: getattr(alert, name) for name in names}


#: `alerts`; a `digest` of more alerts than it shows; a `notice` that is not about a transaction; a
#: `test`; an `event`: what a person did in the review; a `label`.
Kind = Literal["alerts", "digest", "notice", "test", "event", "label"]


@dataclass(frozen=True)
class Message:
    """The fixed contents of a delivery: the same at every attempt."""

    #: Id of the delivery, by which receivers recognise a repeat.
    delivery_id: str
    kind: Kind
    #: When the contents were fixed, UTC.
    created_at: datetime
    #: The alerts by event time; in a digest, those with the highest scores.
    alerts: tuple[Alert, ...] = ()
    #: Number of alerts that the message reports: more than `alerts` in a digest.
    total: int = 0
    #: Text of a notice, a test or an event.
    text: str | None = None
    #: The event or the label.
    event: dict[str, object] | None = None


def message_json(message: Message, fields: tuple[str, ...] = FIELDS) -> bytes:
    """Return the message as a JSON object: the same bytes at every attempt.

    Args:
      message: with n alerts.
      fields: names of the fields of each alert to include.

    Returns:
      An object of `delivery_id, kind, created_at, total, text` and `alerts`, a list of n objects;
      of an event or a label also `event`.
    """
    content: dict[str, object] = {
        "delivery_id": message.delivery_id,
        "kind": message.kind,
        "created_at": message.created_at,
        "total": message.total,
        "text": message.text,
        "alerts": [chosen_fields(alert, fields) for alert in message.alerts],
    }
    if message.event is not None:
        content["event"] = message.event
    return _ENCODER.encode(content)


def message_records(message: Message, fields: tuple[str, ...] = FIELDS) -> list[tuple[str, bytes]]:
    """Return a record per alert; one for the message if it is of another kind.

    Args:
      message: with n alerts.
      fields: names of the fields of each alert to include.

    Returns:
      Pairs of a stable key and a JSON object. The object of an alert has the `fields`; a label is
      the object that streams read, with its transaction as the key; the object of another message
      is that of `message_json`.
    """
    if message.kind == "label" and message.event is not None:
        return [(str(message.event["transaction_id"]), _ENCODER.encode(message.event))]
    if message.kind != "alerts":
        return [(message.delivery_id, message_json(message, fields))]
    return [
        (alert.alert_id, _ENCODER.encode(chosen_fields(alert, fields))) for alert in message.alerts
    ]

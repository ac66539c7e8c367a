"""Convert a message to JSON: one object, or a record per alert."""

from __future__ import annotations

import msgspec

from beam_fraud.alerts.message import FIELDS, Message, chosen_fields

_ENCODER = msgspec.json.Encoder()


def message_json(message: Message, fields: tuple[str, ...] = FIELDS) -> bytes:
    """Return the message as a JSON object: the same bytes at every attempt.

    Args:
      message: with n alerts.
      fields: names of the fields of each alert to include.

    Returns:
      An object of `delivery_id, kind, created_at, total, text` and `alerts`, a list of n objects.
    """
    content = {
        "delivery_id": message.delivery_id,
        "kind": message.kind,
        "created_at": message.created_at,
        "total": message.total,
        "text": message.text,
        "alerts": [chosen_fields(alert, fields) for alert in message.alerts],
    }
    return _ENCODER.encode(content)


def message_records(message: Message, fields: tuple[str, ...] = FIELDS) -> list[tuple[str, bytes]]:
    """Return a record per alert; one for the message if it is a digest, notice or test.

    Args:
      message: with n alerts.
      fields: names of the fields of each alert to include.

    Returns:
      Pairs of a stable key and a JSON object. The object of an alert has the `fields`; the object
      of a message is that of `message_json`.
    """
    if message.kind != "alerts":
        return [(message.delivery_id, message_json(message, fields))]
    return [
        (alert.alert_id, _ENCODER.encode(chosen_fields(alert, fields))) for alert in message.alerts
    ]

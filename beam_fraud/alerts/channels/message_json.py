"""A message as JSON: whole, or a record for each alert."""

from __future__ import annotations

import msgspec

from beam_fraud.alerts.message import FIELDS, Message, chosen_fields

_ENCODER = msgspec.json.Encoder()


def message_json(message: Message, fields: tuple[str, ...] = FIELDS) -> bytes:
    """The whole message as a JSON object: the same bytes however often it is asked for.

    Args:
      message: with n alerts.
      fields: of each alert that are told.

    Returns:
      An object of `delivery_id, kind, created_at, total, text` and `alerts`, a list of n objects.
    """
    told = {
        "delivery_id": message.delivery_id,
        "kind": message.kind,
        "created_at": message.created_at,
        "total": message.total,
        "text": message.text,
        "alerts": [chosen_fields(alert, fields) for alert in message.alerts],
    }
    return _ENCODER.encode(told)


def message_records(message: Message, fields: tuple[str, ...] = FIELDS) -> list[tuple[str, bytes]]:
    """A record for each alert; one for the whole message where it is a digest, notice or test.

    Args:
      message: with n alerts.
      fields: of each alert that are told.

    Returns:
      Pairs of a key, which is the same for the same record, and a JSON object. That of an alert has
      the `fields`; any other has a `kind` and is as `message_json` makes it.
    """
    if message.kind != "alerts":
        return [(message.delivery_id, message_json(message, fields))]
    return [
        (alert.alert_id, _ENCODER.encode(chosen_fields(alert, fields))) for alert in message.alerts
    ]

"""A message of a channel."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal

from beam_fraud.alerts.alert import Alert

#: All fields of an alert.
FIELDS = tuple(field.name for field in fields(Alert))


def chosen_fields(alert: Alert, names: tuple[str, ...] = FIELDS) -> dict[str, object]:
    """Return the fields `names` of an alert, in the order of `names`."""
    return {name: getattr(alert, name) for name in names}


#: `alerts`; a `digest` of more alerts than it shows; a `notice` that is not about a transaction; a
#: `test`.
Kind = Literal["alerts", "digest", "notice", "test"]


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
    #: Text of a notice or a test.
    text: str | None = None

"""A message of a channel."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal

from beam_fraud.alerts.alert import Alert

#: All fields of an alert.
FIELDS = tuple(field.name for field in fields(Alert))


def chosen_fields(alert: Alert, names: tuple[str, ...] = FIELDS) -> dict[str, object]:
    """Return the fields `names` of an alert, in that order."""
    return {name: getattr(alert, name) for name in names}


#: `alerts`; a `digest` of more alerts than it shows; a `notice` that is not about a transaction; a
#: `test`.
Kind = Literal["alerts", "digest", "notice", "test"]


@dataclass(frozen=True)
class Message:
    """A delivery as the outbox fixed it: the same at every attempt."""

    #: Id of the delivery, by which receivers recognise a repeat.
    delivery_id: str
    #: Kind of the message.
    kind: Kind
    #: When the delivery was fixed, UTC.
    created_at: datetime
    #: The alerts by event time; in a digest, those with the highest scores.
    alerts: tuple[Alert, ...] = ()
    #: Number of alerts it reports: more than `alerts` in a digest.
    total: int = 0
    #: Text of a notice or a test.
    text: str | None = None

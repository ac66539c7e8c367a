"""What a channel is given to send at once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal

from beam_fraud.alerts.alert import Alert

#: All fields of an alert.
FIELDS = tuple(field.name for field in fields(Alert))


def chosen_fields(alert: Alert, names: tuple[str, ...] = FIELDS) -> dict[str, object]:
    """The fields `names` of an alert, in that order."""
    return {name: getattr(alert, name) for name in names}


#: `alerts`; a `digest` of more alerts than it shows; a `notice` of something else than a
#: transaction; a `test`.
Kind = Literal["alerts", "digest", "notice", "test"]


@dataclass(frozen=True)
class Message:
    """A delivery, as the outbox has fixed it: the same however often it is tried."""

    #: Of the delivery: receivers know a repeat by it.
    delivery_id: str
    #: What it is.
    kind: Kind
    #: When the delivery was fixed, UTC.
    created_at: datetime
    #: What it tells of, by event time; of a digest those with the highest scores.
    alerts: tuple[Alert, ...] = ()
    #: How many alerts it stands for: more than `alerts` in a digest.
    total: int = 0
    #: What a notice or a test says.
    text: str | None = None

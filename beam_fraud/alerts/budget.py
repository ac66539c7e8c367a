"""How many messages a channel may still be sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, func, or_, select

from beam_fraud.alerts.policy import Rate
from beam_fraud.sinks.tables import DELIVERIES


@dataclass(frozen=True)
class Budget:
    """What a bound on messages leaves at a moment."""

    #: Messages that may be made now.
    free: int
    #: When the next one may be, if none may be now and that is known.
    next_at: datetime | None


def budget(connection: Connection, channel: str, rate: Rate, now: datetime) -> Budget:
    """What `rate` leaves: in any `rate.seconds` no more messages go out than it says.

    What was sent counts for so long after it was sent, and what waits to be sent counts as well, so
    the bound holds after an outage and after a restart. Notices do not count.
    """
    span = timedelta(seconds=rate.seconds)
    table = DELIVERIES.c
    sent_lately = and_(table.state == "sent", table.sent_at > now - span)
    given_up_lately = and_(table.state == "failed", table.created_at > now - span)
    query = select(func.count(), func.min(table.sent_at)).where(
        table.channel == channel,
        table.kind != "notice",
        or_(table.state == "waiting", sent_lately, given_up_lately),
    )
    used, oldest = connection.execute(query).one()
    free = rate.messages - used
    return Budget(free, None if free > 0 or oldest is None else oldest + span)

"""Alerts that somebody wants to go out again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, or_, select

from beam_fraud.alerts.fixing import new_delivery
from beam_fraud.storage.database.tables import ALERTS, DELIVERIES


def channels_of(connection: Connection, alert_ids: Sequence[str]) -> dict[str, str]:
    """Alert to its channel, for those of `alert_ids` that there are."""
    query = select(ALERTS.c.alert_id, ALERTS.c.channel).where(ALERTS.c.alert_id.in_(alert_ids))
    return {row.alert_id: row.channel for row in connection.execute(query)}


def reopen_failed(connection: Connection, channel: str) -> list[str]:
    """Let the deliveries of `channel` that were given up go out again; returns their ids."""
    failed = select(DELIVERIES.c.delivery_id).where(
        DELIVERIES.c.channel == channel, DELIVERIES.c.state == "failed"
    )
    found = list(connection.scalars(failed))
    _reopen(connection, found)
    return found


def send_again(
    connection: Connection,
    channel: str,
    alert_ids: Sequence[str],
    now: datetime,
    most: int,
) -> list[str]:
    """Make deliveries of alerts, whether they are due, snoozed or were sent before.

    One whose delivery has not gone out goes with that, which stays as it is.

    Args:
      connection: in a transaction that may write.
      channel: which all of `alert_ids` are of.
      alert_ids: in any order.
      now: the moment of the new deliveries.
      most: alerts in a delivery at most.

    Returns:
      Ids of the deliveries that are to go out now.
    """
    query = (
        select(ALERTS.c.alert_id, ALERTS.c.sent_at, DELIVERIES.c.delivery_id, DELIVERIES.c.state)
        .outerjoin(DELIVERIES, DELIVERIES.c.delivery_id == ALERTS.c.delivery_id)
        .where(ALERTS.c.alert_id.in_(alert_ids))
        .order_by(ALERTS.c.event_time, ALERTS.c.alert_id)
    )
    rows = connection.execute(query).all()
    fixed = sorted({row.delivery_id for row in rows if row.state in ("waiting", "failed")})
    _reopen(connection, fixed)
    loose = [row.alert_id for row in rows if row.state not in ("waiting", "failed")]
    made = []
    for number, start in enumerate(range(0, len(loose), most)):
        row = new_delivery(channel, "alerts", None, now + timedelta(microseconds=number))
        # Not those that a dispatcher has put into a message in this moment.
        free = or_(ALERTS.c.delivery_id.is_(None), ALERTS.c.sent_at.is_not(None))
        connection.execute(
            ALERTS.update()
            .where(ALERTS.c.alert_id.in_(loose[start : start + most]), free)
            .values(delivery_id=row["delivery_id"], sent_at=None)
        )
        connection.execute(DELIVERIES.insert(), [row])
        made.append(str(row["delivery_id"]))
    return fixed + made


def _reopen(connection: Connection, delivery_ids: Sequence[str]) -> None:
    changes: Mapping[str, object] = {"state": "waiting", "attempts": 0, "next_try_at": None}
    connection.execute(
        DELIVERIES.update().where(DELIVERIES.c.delivery_id.in_(delivery_ids)).values(**changes)
    )

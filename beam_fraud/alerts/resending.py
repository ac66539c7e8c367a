"""Send alerts again on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, or_, select

from beam_fraud.alerts.fixing import new_delivery
from beam_fraud.storage.database.tables import ALERTS, DELIVERIES


def channels_of(connection: Connection, alert_ids: Sequence[str]) -> dict[str, str]:
    """Return the channel of each existing alert of `alert_ids`."""
    query = select(ALERTS.c.alert_id, ALERTS.c.channel).where(ALERTS.c.alert_id.in_(alert_ids))
    return {row.alert_id: row.channel for row in connection.execute(query)}


def reopen_failed(connection: Connection, channel: str) -> list[str]:
    """Make the failed deliveries of `channel` pending again; return their ids."""
    failed = select(DELIVERIES.c.delivery_id).where(
        DELIVERIES.c.channel == channel, DELIVERIES.c.state == "failed"
    )
    delivery_ids = list(connection.scalars(failed))
    _reopen(connection, delivery_ids)
    return delivery_ids


def send_again(
    connection: Connection,
    channel: str,
    alert_ids: Sequence[str],
    now: datetime,
    most: int,
) -> list[str]:
    """Create deliveries of alerts, even of alerts that are snoozed, not due or sent before.

    An alert in an unsent delivery stays in that delivery.

    Args:
      connection: in a transaction that may write.
      channel: the channel of all `alert_ids`.
      alert_ids: in any order.
      now: time of the new deliveries.
      most: maximum of alerts in a delivery.

    Returns:
      Ids of the deliveries to send now.
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
    unassigned = [row.alert_id for row in rows if row.state not in ("waiting", "failed")]
    created = []
    for number, start in enumerate(range(0, len(unassigned), most)):
        row = new_delivery(channel, "alerts", None, now + timedelta(microseconds=number))
        # Exclude alerts that a dispatcher has just put into a message.
        free = or_(ALERTS.c.delivery_id.is_(None), ALERTS.c.sent_at.is_not(None))
        connection.execute(
            ALERTS.update()
            .where(ALERTS.c.alert_id.in_(unassigned[start : start + most]), free)
            .values(delivery_id=row["delivery_id"], sent_at=None)
        )
        connection.execute(DELIVERIES.insert(), [row])
        created.append(str(row["delivery_id"]))
    return fixed + created


def _reopen(connection: Connection, delivery_ids: Sequence[str]) -> None:
    changes: Mapping[str, object] = {"state": "waiting", "attempts": 0, "next_try_at": None}
    connection.execute(
        DELIVERIES.update().where(DELIVERIES.c.delivery_id.in_(delivery_ids)).values(**changes)
    )

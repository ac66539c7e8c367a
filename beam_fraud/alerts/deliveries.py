"""Read a channel's pending messages and record their outcome."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import Connection, Row, bindparam, func, or_, select

from beam_fraud.alerts.alert import Alert
from beam_fraud.alerts.message import Message
from beam_fraud.alerts.policy import SHOWN_IN_DIGEST, Policy
from beam_fraud.alerts.snoozes import snoozed
from beam_fraud.storage.database.tables import ALERTS, DELIVERIES

#: Approximate number of alerts per page, and maximum of deliveries per page.
_ALERTS_AT_ONCE, _DELIVERIES_AT_ONCE = 5_000, 200


@dataclass(frozen=True)
class Delivery:
    """A stored message, the same at every attempt."""

    message: Message
    #: Number of times that the receiver refused the message.
    refusals: int

    @property
    def empty(self) -> bool:
        """Return whether all its alerts were erased or moved to another delivery."""
        return self.message.kind in ("alerts", "digest") and self.message.total == 0


def due_deliveries(
    connection: Connection,
    channel: str,
    now: datetime,
    policy: Policy,
    only: Collection[str] | None = None,
) -> list[Delivery]:
    """Return the deliveries of `channel` that are due at `now`, oldest first.

    Args:
      connection: in a transaction.
      channel: name of the channel.
      now: the current time.
      policy: the channel's policy; smaller messages mean more messages per call.
      only: ids of deliveries to consider; None for all.
    """
    table = DELIVERIES.c
    query = (
        select(DELIVERIES)
        .where(
            table.channel == channel,
            table.state == "waiting",
            or_(table.next_try_at.is_(None), table.next_try_at <= now),
        )
        .order_by(table.created_at, table.delivery_id)
        .limit(max(1, min(_ALERTS_AT_ONCE // policy.most, _DELIVERIES_AT_ONCE)))
    )
    if only is not None:
        query = query.where(table.delivery_id.in_(only))
    rows = connection.execute(query).all()
    alerts = _alerts(connection, [row.delivery_id for row in rows if row.kind == "alerts"])
    deliveries = []
    for row in rows:
        if row.kind == "digest":
            message = _digest(connection, row, policy.digest or SHOWN_IN_DIGEST)
        else:
            own = tuple(alerts[row.delivery_id])
            event = row.event and msgspec.json.decode(row.event)
            message = Message(
                row.delivery_id, row.kind, row.created_at, own, len(own), row.text, event
            )
        deliveries.append(Delivery(message, row.attempts))
    return deliveries


def has_pending(
    connection: Connection, channel: str, now: datetime, only: Collection[str] | None = None
) -> bool:
    """Return whether an unsnoozed alert or a delivery of `channel` is pending.

    Args:
      connection: in a transaction.
      channel: name of the channel.
      now: the current time.
      only: ids of deliveries to consider; None for all deliveries and for alerts without one.
    """
    deliveries = select(DELIVERIES.c.delivery_id).where(
        DELIVERIES.c.channel == channel, DELIVERIES.c.state == "waiting"
    )
    if only is not None:
        query = deliveries.where(DELIVERIES.c.delivery_id.in_(only))
        return connection.execute(query).first() is not None
    alerts = select(ALERTS.c.alert_id).where(
        ALERTS.c.channel == channel,
        ALERTS.c.delivery_id.is_(None),
        ALERTS.c.sent_at.is_(None),
        ~snoozed(now),
    )
    return any(
        connection.execute(query.limit(1)).first() is not None for query in (deliveries, alerts)
    )


def mark_sent(connection: Connection, accepted: Mapping[str, datetime]) -> None:
    """Record accepted deliveries: id to time of acceptance."""
    table, rows = DELIVERIES.c, [{"key": key, "at": when} for key, when in accepted.items()]
    deliveries = (
        DELIVERIES.update()
        .where(table.delivery_id == bindparam("key"))
        .values(
            state="sent",
            attempts=table.attempts + 1,
            next_try_at=None,
            last_error=None,
            sent_at=bindparam("at"),
        )
    )
    alerts = (
        ALERTS.update()
        .where(ALERTS.c.delivery_id == bindparam("key"))
        .values(sent_at=bindparam("at"))
    )
    if rows:
        connection.execute(deliveries, rows)
        connection.execute(alerts, rows)


def mark_refused(
    connection: Connection, delivery_id: str, reason: str, next_try_at: datetime | None
) -> None:
    """Record a refusal; without a time of the next attempt, give the delivery up."""
    table = DELIVERIES.c
    connection.execute(
        DELIVERIES.update()
        .where(table.delivery_id == delivery_id)
        .values(
            state="failed" if next_try_at is None else "waiting",
            attempts=table.attempts + 1,
            next_try_at=next_try_at,
            last_error=reason,
        )
    )


def note_error(connection: Connection, delivery_id: str, reason: str) -> None:
    """Record why a channel could not send a delivery."""
    connection.execute(
        DELIVERIES.update().where(DELIVERIES.c.delivery_id == delivery_id).values(last_error=reason)
    )


def drop(connection: Connection, delivery_id: str) -> None:
    """Delete a delivery without alerts."""
    connection.execute(DELIVERIES.delete().where(DELIVERIES.c.delivery_id == delivery_id))


def try_all_now(connection: Connection, channel: str) -> None:
    """Make every delivery of `channel` due now."""
    connection.execute(
        DELIVERIES.update()
        .where(
            DELIVERIES.c.channel == channel,
            DELIVERIES.c.state == "waiting",
            DELIVERIES.c.next_try_at.is_not(None),
        )
        .values(next_try_at=None)
    )


def _alerts(connection: Connection, delivery_ids: list[str]) -> dict[str, list[Alert]]:
    alerts: dict[str, list[Alert]] = defaultdict(list)
    if delivery_ids:
        query = (
            select(ALERTS)
            .where(ALERTS.c.delivery_id.in_(delivery_ids))
            .order_by(ALERTS.c.event_time, ALERTS.c.alert_id)
        )
        for row in connection.execute(query):
            alerts[row.delivery_id].append(Alert.from_row(row._asdict()))
    return alerts


def _digest(connection: Connection, row: Row[tuple[object, ...]], shown: int) -> Message:
    """Return a digest: the counts, and the `shown` alerts with the highest scores."""
    of_it = ALERTS.c.delivery_id == row.delivery_id
    count = func.count()
    counts = connection.execute(
        select(ALERTS.c.decision, count)
        .where(of_it)
        .group_by(ALERTS.c.decision)
        .order_by(count.desc(), ALERTS.c.decision)
    ).all()
    highest = connection.execute(
        select(ALERTS)
        .where(of_it)
        .order_by(ALERTS.c.score.desc(), ALERTS.c.event_time, ALERTS.c.alert_id)
        .limit(shown)
    )
    total = sum(number for _, number in counts)
    by_rules = connection.execute(
        select(count).where(of_it, ALERTS.c.fired_rules.contains('"raised":true'))
    ).scalar_one()
    parts = [f"{number:,} {decision}" for decision, number in counts]
    if by_rules:
        parts.append(f"{by_rules:,} of them by rules")
    text = f"{total:,} alerts: {', '.join(parts)}."
    if total > shown:
        text += f" These {shown} have the highest scores; `beam-fraud alerts list` shows all."
    alerts = tuple(Alert.from_row(alert._asdict()) for alert in highest)
    return Message(row.delivery_id, "digest", row.created_at, alerts, total, text)

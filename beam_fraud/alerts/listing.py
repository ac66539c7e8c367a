"""List the alerts of an outbox."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Case, Connection, Select, and_, case, select

from beam_fraud.alerts.alert import Alert
from beam_fraud.alerts.snoozes import snoozed
from beam_fraud.storage.database.tables import ALERTS, DELIVERIES

State = Literal["waiting", "sent", "failed", "snoozed"]


@dataclass(frozen=True)
class Filters:
    """Filters of a list; an alert passes if it matches every filter that is not None."""

    state: State | None = None
    #: Names of channels.
    channels: tuple[str, ...] | None = None
    account_id: str | None = None
    merchant_id: str | None = None


@dataclass(frozen=True)
class ListedAlert:
    """An alert and its state."""

    alert: Alert
    state: State
    #: Id of the message; None before the alert is in one.
    delivery_id: str | None
    #: Attempts at which the receiver refused or accepted the message.
    attempts: int
    #: Earliest time of the next attempt.
    next_try_at: datetime | None
    #: Reason of the last failure.
    last_error: str | None
    #: When the alert was sent.
    sent_at: datetime | None


def newest_alerts(
    connection: Connection, filters: Filters, limit: int, now: datetime
) -> list[ListedAlert]:
    """Return the newest `limit` alerts that pass `filters`, newest event first."""
    state = _state(now)
    table = DELIVERIES.c
    query: Select[*tuple[object, ...]] = (
        select(
            ALERTS,
            state.label("state"),
            table.attempts,
            table.next_try_at,
            table.last_error,
        )
        .outerjoin(DELIVERIES, table.delivery_id == ALERTS.c.delivery_id)
        .order_by(ALERTS.c.event_time.desc(), ALERTS.c.alert_id)
        .limit(limit)
    )
    values = {
        state: filters.state,
        ALERTS.c.account_id: filters.account_id,
        ALERTS.c.merchant_id: filters.merchant_id,
    }
    query = query.where(*(column == value for column, value in values.items() if value is not None))
    if filters.channels is not None:
        query = query.where(ALERTS.c.channel.in_(filters.channels))
    return [
        ListedAlert(
            Alert.from_row(row._asdict()),
            row.state,
            row.delivery_id,
            row.attempts or 0,
            row.next_try_at,
            row.last_error,
            row.sent_at,
        )
        for row in connection.execute(query)
    ]


def last_errors(connection: Connection) -> dict[str, str]:
    """Return the last error of each channel's newest unsent message."""
    table = DELIVERIES.c
    query = (
        select(table.channel, table.last_error)
        .where(table.state.in_(("waiting", "failed")), table.last_error.is_not(None))
        .order_by(table.created_at)
    )
    return {row.channel: row.last_error for row in connection.execute(query)}


def _state(now: datetime) -> Case[str]:
    return case(
        (ALERTS.c.sent_at.is_not(None), "sent"),
        (DELIVERIES.c.state == "failed", "failed"),
        (and_(ALERTS.c.delivery_id.is_(None), snoozed(now)), "snoozed"),
        else_="waiting",
    )

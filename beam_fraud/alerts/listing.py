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
class Wanted:
    """Filters of a list; an alert passes if it matches every filter that is not None."""

    #: States of the alerts.
    state: State | None = None
    #: Names of channels; None for all.
    channels: tuple[str, ...] | None = None
    #: Ids of accounts.
    account_id: str | None = None
    #: Ids of merchants.
    merchant_id: str | None = None


@dataclass(frozen=True)
class Listed:
    """An alert and its state."""

    alert: Alert
    state: State
    #: Id of its message; None before it has one.
    delivery_id: str | None
    #: Attempts at which the receiver refused or accepted the message.
    attempts: int
    #: Earliest time of the next attempt.
    next_try_at: datetime | None
    #: Reason of the last failure.
    last_error: str | None
    #: Time it was sent.
    sent_at: datetime | None


def listed(connection: Connection, wanted: Wanted, limit: int, now: datetime) -> list[Listed]:
    """Return the newest `limit` alerts that match `wanted`, newest event first."""
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
    given = {
        state: wanted.state,
        ALERTS.c.account_id: wanted.account_id,
        ALERTS.c.merchant_id: wanted.merchant_id,
    }
    query = query.where(*(column == value for column, value in given.items() if value is not None))
    if wanted.channels is not None:
        query = query.where(ALERTS.c.channel.in_(wanted.channels))
    return [
        Listed(
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
    """Return the last error per channel, of its newest unsent message."""
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

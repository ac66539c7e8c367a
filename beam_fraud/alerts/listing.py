"""The alerts of an outbox, as people look them up."""

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
    """Which alerts to list: all that have every value that is given."""

    #: What has become of them.
    state: State | None = None
    #: Names of channels; of any if None.
    channels: tuple[str, ...] | None = None
    #: Whose they are.
    account_id: str | None = None
    #: Who was to get the money.
    merchant_id: str | None = None


@dataclass(frozen=True)
class Listed:
    """An alert and what has become of it."""

    alert: Alert
    state: State
    #: The message that it is in, None before it is in one.
    delivery_id: str | None
    #: How often the receiver refused that message or took it.
    attempts: int
    #: Not tried again before.
    next_try_at: datetime | None
    #: Why it did not go out the last time.
    last_error: str | None
    #: When it went out.
    sent_at: datetime | None


def listed(connection: Connection, wanted: Wanted, limit: int, now: datetime) -> list[Listed]:
    """The newest `limit` alerts that are wanted, by event time, the newest first."""
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
    """Channel to what its newest message that has not gone out failed by."""
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

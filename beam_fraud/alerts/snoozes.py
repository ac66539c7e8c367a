"""Snooze the alerts of accounts and merchants, and alarms of figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, Connection, exists, or_, select

from beam_fraud.storage.database.tables import ALERTS, SNOOZES
from beam_fraud.storage.database.upsert import Row, upsert

Subject = Literal["account", "merchant", "figure"]


@dataclass(frozen=True)
class Snooze:
    """A snooze of an account, a merchant, or a figure of the monitor."""

    kind: Subject
    #: The id; of a figure its name, or that of a feature.
    value: str
    #: End of the snooze, UTC.
    until: datetime


def snoozed(now: datetime) -> ColumnElement[bool]:
    """Return the SQL condition that a row of `alerts` is snoozed at `now`."""

    def in_force(kind: Subject, column: ColumnElement[str]) -> ColumnElement[bool]:
        return exists().where(
            SNOOZES.c.kind == kind, SNOOZES.c.value == column, SNOOZES.c.until > now
        )

    return or_(in_force("account", ALERTS.c.account_id), in_force("merchant", ALERTS.c.merchant_id))


def snooze(connection: Connection, snoozes: Sequence[Snooze], now: datetime) -> None:
    """Start snoozes, or change the end of existing snoozes."""
    rows: list[Row] = [
        {"kind": one.kind, "value": one.value, "until": one.until, "created_at": now}
        for one in snoozes
    ]
    upsert(connection, SNOOZES, rows)


def lift(connection: Connection, kind: Subject, value: str, now: datetime) -> bool:
    """End a snooze; return whether one was in force."""
    of_it = (SNOOZES.c.kind == kind, SNOOZES.c.value == value)
    in_force = connection.execute(select(SNOOZES.c.until).where(*of_it, SNOOZES.c.until > now))
    there = in_force.first() is not None
    connection.execute(SNOOZES.delete().where(*of_it))
    return there


def is_alerted(connection: Connection, kind: Subject, value: str) -> bool:
    """Return whether an account or a merchant ever had an alert; True of a figure."""
    if kind == "figure":
        # Its alarms are in no table.
        return True
    column = {"account": ALERTS.c.account_id, "merchant": ALERTS.c.merchant_id}[kind]
    return connection.execute(select(ALERTS.c.alert_id).where(column == value)).first() is not None


def newest_timezone(connection: Connection) -> str:
    """Return the time zone of the newest alert, for the ends of snoozes."""
    newest = select(ALERTS.c.timezone).order_by(ALERTS.c.event_time.desc()).limit(1)
    return connection.execute(newest).scalar() or "UTC"


def snoozes_in_force(connection: Connection, now: datetime) -> list[Snooze]:
    """Return all snoozes in force, the first to end first."""
    query = (
        select(SNOOZES.c.kind, SNOOZES.c.value, SNOOZES.c.until)
        .where(SNOOZES.c.until > now)
        .order_by(SNOOZES.c.until, SNOOZES.c.kind, SNOOZES.c.value)
    )
    return [Snooze(*row) for row in connection.execute(query)]

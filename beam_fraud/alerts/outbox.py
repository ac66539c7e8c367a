"""The outbox: alerts are written down with the flagged row, and sent from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, select

from beam_fraud.alert import Alert
from beam_fraud.sinks.connection import (
    check_database,
    masked,
    prepare_database,
    transaction,
    writing,
)
from beam_fraud.sinks.queued_alerts import queue_alerts
from beam_fraud.sinks.tables import ALERTS


@dataclass(frozen=True)
class Counts:
    """How many alerts of a channel are in the outbox."""

    #: Waiting to be sent.
    pending: int = 0
    #: Sent, in this run or an earlier one.
    sent: int = 0


@dataclass(frozen=True)
class Outbox:
    """The table `alerts` of a database. Every method is one transaction.

    All of them raise FraudError where the database refuses or cannot be reached.
    """

    #: A database URL as SQLAlchemy reads it, with an absolute path for SQLite.
    url: str

    def check(self) -> None:
        """See that the database can be written to and that its tables are ours."""
        check_database(self.url)

    def begin(self) -> None:
        """Make the tables."""
        prepare_database(self.url)

    def queue(self, alerts: Sequence[Alert]) -> None:
        """Add `alerts`: a sent one stays as it is, a waiting one takes the newest scoring."""
        with writing(self.url) as connection:
            queue_alerts(connection, alerts)

    def pending(self, channel: str, limit: int) -> list[Alert]:
        """The first `limit` alerts of `channel` that wait, by event time."""
        query = (
            select(ALERTS)
            .where(ALERTS.c.channel == channel, ALERTS.c.sent_at.is_(None))
            .order_by(ALERTS.c.event_time, ALERTS.c.alert_id)
            .limit(limit)
        )
        with transaction(self.url) as connection:
            return [Alert.from_row(row._asdict()) for row in connection.execute(query)]

    def mark_sent(self, alert_ids: Sequence[str], when: datetime) -> None:
        """Note that alerts went out at `when`; those noted before keep their time."""
        if not alert_ids:
            return
        change = (
            ALERTS.update()
            .where(ALERTS.c.alert_id == bindparam("key"), ALERTS.c.sent_at.is_(None))
            .values(sent_at=bindparam("at"))
        )
        with writing(self.url) as connection:
            connection.execute(change, [{"key": key, "at": when} for key in alert_ids])

    def counts(self) -> dict[str, Counts]:
        """Channel to how many of its alerts wait and were sent."""
        total, sent = func.count(), func.count(ALERTS.c.sent_at)
        query = select(ALERTS.c.channel, total, sent).group_by(ALERTS.c.channel)
        with transaction(self.url) as connection:
            rows = connection.execute(query).all()
        return {channel: Counts(pending=n - done, sent=done) for channel, n, done in rows}

    def describe(self) -> str:
        """The database URL without its password."""
        return masked(self.url)

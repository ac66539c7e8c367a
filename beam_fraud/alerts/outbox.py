"""The outbox: commit alerts with their flagged rows, send them afterwards."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Select, func, select

from beam_fraud.alerts.snoozes import snoozed
from beam_fraud.storage.database.connection import (
    check_database,
    masked,
    prepare_database,
    transaction,
)
from beam_fraud.storage.database.tables import ALERTS, DELIVERIES


@dataclass(frozen=True)
class Counts:
    """Number of a channel's alerts in the outbox, by state."""

    #: Pending.
    pending: int = 0
    #: Sent, in this run or an earlier one.
    sent: int = 0
    #: Given up because the receiver refused them repeatedly.
    failed: int = 0
    #: Snoozed.
    snoozed: int = 0


@dataclass(frozen=True)
class Outbox:
    """The table `alerts` of a database. Every method is one transaction.

    Each raises FraudError if the database fails or cannot be reached.
    """

    #: A database URL as SQLAlchemy reads it, with an absolute path for SQLite.
    url: str

    def check(self) -> None:
        """Check that the database accepts writes and that its tables are those of beam-fraud."""
        check_database(self.url)

    def begin(self) -> None:
        """Create the tables."""
        prepare_database(self.url)

    def counts(self, now: datetime | None = None) -> dict[str, Counts]:
        """Return the counts of each channel at `now`."""
        now = datetime.now(UTC) if now is None else now
        of_channel = select(ALERTS.c.channel, func.count())
        waiting = ALERTS.c.delivery_id.is_(None) & ALERTS.c.sent_at.is_(None)
        given_up = of_channel.join(
            DELIVERIES, ALERTS.c.delivery_id == DELIVERIES.c.delivery_id
        ).where(DELIVERIES.c.state == "failed")
        total = select(ALERTS.c.channel, func.count(), func.count(ALERTS.c.sent_at))
        with transaction(self.url) as connection:
            rows = connection.execute(total.group_by(ALERTS.c.channel)).all()
            failed = _by_channel(connection, given_up)
            held = _by_channel(connection, of_channel.where(waiting, snoozed(now)))
        counts = {}
        for channel, there, sent in rows:
            lost, quiet = failed.get(channel, 0), held.get(channel, 0)
            counts[channel] = Counts(there - sent - lost - quiet, sent, lost, quiet)
        return counts

    def unsent(self, delivery_ids: Collection[str]) -> dict[str, int]:
        """Return the number of unsent alerts of these deliveries per channel."""
        query = select(ALERTS.c.channel, func.count()).where(
            ALERTS.c.delivery_id.in_(delivery_ids), ALERTS.c.sent_at.is_(None)
        )
        with transaction(self.url) as connection:
            return _by_channel(connection, query)

    def describe(self) -> str:
        """Return the database URL without its password."""
        return masked(self.url)


def _by_channel(connection: Connection, query: Select[str, int]) -> dict[str, int]:
    rows = connection.execute(query.group_by(ALERTS.c.channel))
    return dict(iter(rows))

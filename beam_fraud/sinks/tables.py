"""The tables of a database: flagged transactions, alerts to send, labels, runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, DateTime, Dialect, Float, Index, MetaData, SmallInteger, Table, Text
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, microseconds, UTC.

    SQLite keeps it as text of fixed width, which sorts as the moments do, and returns it without
    a zone; PostgreSQL has a type for it.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Bring an aware time to UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Give the time its zone again."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


METADATA = MetaData()


def _scored_columns() -> list[Column[Any]]:
    return [
        Column("event_time", UtcDateTime, nullable=False),
        Column("account_id", Text),
        Column("merchant_id", Text),
        Column("amount", Float(53), nullable=False),
        Column("score", Float(53), nullable=False),
        Column("decision", Text, nullable=False),
        # JSON lists.
        Column("rules", Text, nullable=False),
        Column("reasons", Text, nullable=False),
    ]


#: One row a flagged transaction and model.
FLAGGED = Table(
    "flagged_transactions",
    METADATA,
    Column("transaction_id", Text, primary_key=True),
    Column("model_id", Text, primary_key=True),
    *_scored_columns(),
    Index("flagged_transactions_event_time", "event_time"),
)

#: The outbox: one row a flagged transaction and channel; `sent_at` is null while it waits.
ALERTS = Table(
    "alerts",
    METADATA,
    Column("alert_id", Text, primary_key=True),
    Column("transaction_id", Text, nullable=False),
    Column("channel", Text, nullable=False),
    *_scored_columns(),
    Column("model_id", Text, nullable=False),
    Column("sent_at", UtcDateTime),
    Index("alerts_waiting", "channel", "sent_at", "event_time"),
)

#: One row a finding: what someone found a transaction to be, at a moment.
LABELS = Table(
    "labels",
    METADATA,
    Column("transaction_id", Text, primary_key=True),
    # Empty where that is not told.
    Column("labelled_by", Text, primary_key=True),
    Column("labelled_at", UtcDateTime, primary_key=True),
    Column("account_id", Text),
    Column("merchant_id", Text),
    Column("event_time", UtcDateTime, nullable=False),
    # 1 is fraud, 0 genuine.
    Column("label", SmallInteger, nullable=False),
)

#: The statement that makes each view.
VIEWS = {
    # The newest label of each transaction; of two of one moment, that of the last name.
    "latest_labels": """
        CREATE VIEW latest_labels AS
        SELECT * FROM labels WHERE NOT EXISTS (
            SELECT 1 FROM labels AS later
            WHERE later.transaction_id = labels.transaction_id
            AND (later.labelled_at, later.labelled_by) > (labels.labelled_at, labels.labelled_by)
        )
    """,
}

#: One row a run that wrote here: `running`, `succeeded` or `failed`; a killed one stays `running`.
RUNS = Table(
    "runs",
    METADATA,
    Column("run_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
)

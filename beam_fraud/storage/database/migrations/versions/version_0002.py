"""Deliveries, snoozes, dead letters and erasures; indexes for queries about a case.

Each sent alert gets its own delivery, or it would be sent again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

#: Index to its table and columns.
_INDEXES = {
    "flagged_transactions_account": ("flagged_transactions", ["account_id", "event_time"]),
    "flagged_transactions_merchant": ("flagged_transactions", ["merchant_id", "event_time"]),
    "flagged_transactions_score": ("flagged_transactions", ["score"]),
    "alerts_delivery": ("alerts", ["delivery_id"]),
    "alerts_transaction": ("alerts", ["transaction_id"]),
    "alerts_account": ("alerts", ["account_id"]),
    "deliveries_state": ("deliveries", ["channel", "state", "created_at"]),
    "deliveries_account": ("deliveries", ["account_id", "channel", "created_at"]),
    "dead_letters_waiting": ("dead_letters", ["replayed_at", "reason"]),
}


def upgrade() -> None:
    """Add the tables and indexes."""
    _make_tables()
    op.add_column("alerts", sa.Column("delivery_id", sa.Text))
    op.execute(
        """
        INSERT INTO deliveries
        (delivery_id, channel, kind, account_id, created_at, state, attempts, sent_at)
        SELECT alert_id, channel, 'alerts', account_id, sent_at, 'sent', 1, sent_at
        FROM alerts WHERE sent_at IS NOT NULL
        """
    )
    op.execute("UPDATE alerts SET delivery_id = alert_id WHERE sent_at IS NOT NULL")
    op.drop_index("alerts_waiting", "alerts")
    waiting = sa.text("delivery_id IS NULL")
    op.create_index(
        "alerts_waiting",
        "alerts",
        ["channel", "event_time", "alert_id"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    for name, (table, columns) in _INDEXES.items():
        op.create_index(name, table, columns)


def _make_tables() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.Text, primary_key=True),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("account_id", sa.Text),
        sa.Column("text", sa.Text),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_try_at", moment),
        sa.Column("last_error", sa.Text),
        sa.Column("sent_at", moment),
    )
    op.create_table(
        "snoozes",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, primary_key=True),
        sa.Column("until", moment, nullable=False),
        sa.Column("created_at", moment, nullable=False),
    )
    op.create_table(
        "dead_letters",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column(
            "position", sa.Integer().with_variant(sa.BigInteger, "postgresql"), primary_key=True
        ),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("detail", sa.Text),
        sa.Column("payload", sa.LargeBinary),
        sa.Column("dead_at", moment, nullable=False),
        sa.Column("replayed_at", moment),
    )
    op.create_table(
        "erasures",
        sa.Column("erasure_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text),
        sa.Column("erased_at", moment, nullable=False),
        sa.Column("rows", sa.Text, nullable=False),
    )

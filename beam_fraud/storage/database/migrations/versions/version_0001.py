"""Flagged transactions, alerts, labels and runs.

Create each table only if it is missing: databases from before versions have some of them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    moment = sa.DateTime(timezone=True)

    def scored() -> list[sa.Column[object]]:
        return [
            sa.Column("event_time", moment, nullable=False),
            sa.Column("account_id", sa.Text),
            sa.Column("merchant_id", sa.Text),
            sa.Column("amount", sa.Float(53), nullable=False),
            sa.Column("score", sa.Float(53), nullable=False),
            sa.Column("decision", sa.Text, nullable=False),
            sa.Column("rules", sa.Text, nullable=False),
            sa.Column("reasons", sa.Text, nullable=False),
        ]

    op.create_table(
        "flagged_transactions",
        sa.Column("transaction_id", sa.Text, primary_key=True),
        sa.Column("model_id", sa.Text, primary_key=True),
        *scored(),
        if_not_exists=True,
    )
    op.create_index(
        "flagged_transactions_event_time",
        "flagged_transactions",
        ["event_time"],
        if_not_exists=True,
    )
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.Text, primary_key=True),
        sa.Column("transaction_id", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        *scored(),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("sent_at", moment),
        if_not_exists=True,
    )
    op.create_index(
        "alerts_waiting", "alerts", ["channel", "sent_at", "event_time"], if_not_exists=True
    )
    op.create_table(
        "labels",
        sa.Column("transaction_id", sa.Text, primary_key=True),
        sa.Column("labelled_by", sa.Text, primary_key=True),
        sa.Column("labelled_at", moment, primary_key=True),
        sa.Column("account_id", sa.Text),
        sa.Column("merchant_id", sa.Text),
        sa.Column("event_time", moment, nullable=False),
        sa.Column("label", sa.SmallInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("started_at", moment, nullable=False),
        sa.Column("ended_at", moment),
        if_not_exists=True,
    )
    if "latest_labels" not in sa.inspect(op.get_bind()).get_view_names():
        op.execute(
            """
            CREATE VIEW latest_labels AS
            SELECT * FROM labels WHERE NOT EXISTS (
                SELECT 1 FROM labels AS later
                WHERE later.transaction_id = labels.transaction_id
                AND (later.labelled_at, later.labelled_by)
                > (labels.labelled_at, labels.labelled_by)
            )
            """
        )

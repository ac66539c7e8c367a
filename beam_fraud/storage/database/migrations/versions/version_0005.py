"""Audited transactions; the reason of labels, and with which probability people saw the row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the table, and both columns of labels; they are null in earlier rows."""
    op.create_table(
        "audited_transactions",
        sa.Column("transaction_id", sa.Text, primary_key=True),
        sa.Column("model_id", sa.Text, primary_key=True),
        sa.Column("event_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("account_id", sa.Text),
        sa.Column("merchant_id", sa.Text),
        sa.Column("amount", sa.Float(53), nullable=False),
        sa.Column("score", sa.Float(53), nullable=False),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("rules", sa.Text, nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
        sa.Column("rules_id", sa.Text),
        sa.Column("shadow_rules", sa.Text),
        sa.Column("probability", sa.Float(53), nullable=False),
        sa.Column("case_id", sa.Text),
    )
    waiting = sa.text("case_id IS NULL")
    op.create_index(
        "audited_transactions_waiting",
        "audited_transactions",
        ["case_id"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    for name, columns in {
        "audited_transactions_event_time": ["event_time"],
        "audited_transactions_account": ["account_id", "event_time"],
        "audited_transactions_merchant": ["merchant_id", "event_time"],
    }.items():
        op.create_index(name, "audited_transactions", columns)
    op.add_column("labels", sa.Column("reason", sa.Text))
    op.add_column("labels", sa.Column("probability", sa.Float(53)))
    op.create_index("labels_labelled_at", "labels", ["labelled_at"])
    if op.get_bind().dialect.name == "postgresql":
        # PostgreSQL stores the columns that * meant when the view was created; SQLite stores *.
        op.execute(
            """
            CREATE OR REPLACE VIEW latest_labels AS
            SELECT * FROM labels WHERE NOT EXISTS (
                SELECT 1 FROM labels AS later
                WHERE later.transaction_id = labels.transaction_id
                AND (later.labelled_at, later.labelled_by)
                > (labels.labelled_at, labels.labelled_by)
            )
            """
        )

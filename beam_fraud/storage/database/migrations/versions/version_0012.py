"""Values of declared columns, by which the review links cases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from beam_fraud.storage.database.tables import UtcDateTime

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the table."""
    value = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "linked_values",
        sa.Column("transaction_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", value, nullable=False),
        sa.Column("event_time", UtcDateTime, nullable=False),
    )
    newest = ["name", "value", "event_time", "transaction_id"]
    op.create_index("linked_values_newest", "linked_values", newest)
    op.create_index("linked_values_event_time", "linked_values", ["event_time"])

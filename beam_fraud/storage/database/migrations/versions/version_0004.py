"""The rule set of flagged transactions, and the rules in shadow."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add both columns; they are null in earlier rows."""
    op.add_column("flagged_transactions", sa.Column("rules_id", sa.Text))
    op.add_column("flagged_transactions", sa.Column("shadow_rules", sa.Text))

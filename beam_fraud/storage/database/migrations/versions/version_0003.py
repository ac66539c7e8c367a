"""Details of rules and the time zone of alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add both columns; earlier alerts have names of rules alone, and times in UTC."""
    op.add_column("alerts", sa.Column("fired_rules", sa.Text))
    op.add_column("alerts", sa.Column("timezone", sa.Text))

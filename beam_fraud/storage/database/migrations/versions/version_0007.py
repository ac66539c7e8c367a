"""People of the analysts' pages: users, sessions and failed log-ins."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from beam_fraud.storage.database.tables import UtcDateTime

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the three tables."""
    op.create_table(
        "users",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("name_key", sa.Text, nullable=False, unique=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("password_hash", sa.Text),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("disabled_at", UtcDateTime),
        sa.Column("seen_at", UtcDateTime),
    )
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.Text, primary_key=True),
        sa.Column("user_name", sa.Text, nullable=False),
        sa.Column("begun_at", UtcDateTime, nullable=False),
        sa.Column("seen_at", UtcDateTime, nullable=False),
    )
    op.create_index("sessions_user", "sessions", ["user_name"])
    op.create_table(
        "login_attempts",
        sa.Column("attempt_id", sa.Text, primary_key=True),
        sa.Column("name_key", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("tried_at", UtcDateTime, nullable=False),
    )
    op.create_index("login_attempts_name", "login_attempts", ["name_key", "tried_at"])
    op.create_index("login_attempts_address", "login_attempts", ["address", "tried_at"])

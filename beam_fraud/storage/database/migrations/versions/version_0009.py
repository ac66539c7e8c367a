"""Indexes of cases for filters that few cases pass."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_RANGES = {"cases_due": "due_at", "cases_amount": "amount", "cases_score": "max_score"}


def upgrade() -> None:
    """Create the indexes."""
    op.drop_index("cases_due", "cases")
    for name, column in _RANGES.items():
        op.create_index(name, "cases", ["state", column, "case_id", "snoozed_until"])
    decided = sa.text("verdict IS NOT NULL")
    op.create_index(
        "cases_verdict", "cases", ["verdict"], sqlite_where=decided, postgresql_where=decided
    )

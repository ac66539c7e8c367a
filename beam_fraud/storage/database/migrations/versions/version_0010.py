"""Indexes of the transactions of cases by account and merchant, and wider ones of ranges."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"

_RANGES = {"cases_due": "due_at", "cases_amount": "amount", "cases_score": "max_score"}
_WITH = ("case_id", "snoozed_until", "expected_loss", "opened_at")


def upgrade() -> None:
    """Create the indexes."""
    for name, column in _RANGES.items():
        op.drop_index(name, "cases")
        op.create_index(name, "cases", ["state", column, *_WITH])
    for key in ("account", "merchant"):
        columns = [f"{key}_id", "event_time", "case_id", "amount", "verdict"]
        op.create_index(f"case_transactions_{key}", "case_transactions", columns)

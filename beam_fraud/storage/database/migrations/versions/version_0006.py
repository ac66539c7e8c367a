"""Cases, what people did with them, and an append-only log of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_FILTERED = ("due_at", "snoozed_until", "claimed_until", "amount", "max_score", "assigned_to")
#: Index to its table and columns.
_INDEXES = {
    "cases_loss": ("cases", ["state", "expected_loss", "case_id", "opened_at", *_FILTERED]),
    "cases_age": ("cases", ["state", "opened_at", "case_id", *_FILTERED]),
    "cases_account": ("cases", ["account_id", "opened_at"]),
    "cases_assigned": ("cases", ["assigned_to", "state", "expected_loss"]),
    "cases_claimed": ("cases", ["claimed_until"]),
    "cases_snoozed": ("cases", ["snoozed_until"]),
    "cases_closed": ("cases", ["closed_at"]),
    "cases_reminders": ("cases", ["remind_at"]),
    "case_transactions_case": ("case_transactions", ["case_id"]),
    "case_transactions_decided": ("case_transactions", ["decided_at"]),
    "case_facets_case": ("case_facets", ["case_id"]),
    "case_notes_case": ("case_notes", ["case_id"]),
    "list_requests_state": ("list_requests", ["state", "asked_at"]),
    "list_requests_case": ("list_requests", ["case_id"]),
    "list_requests_value": ("list_requests", ["kind", "value"]),
    "audit_log_case": ("audit_log", ["case_id"]),
    "audit_log_who": ("audit_log", ["who", "number"]),
}
_REFUSAL = "audit_log: entries are never changed"


def upgrade() -> None:
    """Add the tables, and the triggers of the log."""
    op.add_column("deliveries", sa.Column("event", sa.Text))
    _make_inbox()
    _make_cases()
    _make_others()
    for name, (table, columns) in _INDEXES.items():
        op.create_index(name, table, columns)
    is_open = sa.text("state = 'open'")
    op.create_index(
        "cases_open_account",
        "cases",
        ["account_id"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    op.create_index(
        "cases_due",
        "cases",
        ["due_at"],
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    _refuse_changes()


def _make_inbox() -> None:
    """Make the inbox; what the database has is in it."""
    inbox = op.create_table(
        "review_inbox",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            sa.Identity(),
            primary_key=True,
        ),
        sa.Column("transaction_ids", sa.Text),
        sa.Column("after", sa.Text),
    )
    there = sa.text("SELECT EXISTS (SELECT 1 FROM flagged_transactions)")
    if op.get_bind().scalar(there):
        op.bulk_insert(inbox, [{"after": ""}])


def _id() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _make_cases() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "cases",
        sa.Column("case_id", _id(), primary_key=True),
        sa.Column("account_id", _id()),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("opened_at", moment, nullable=False),
        sa.Column("due_at", moment, nullable=False),
        sa.Column("closed_at", moment),
        sa.Column("closed_by", sa.Text),
        sa.Column("verdict", sa.Text),
        sa.Column("claimed_by", sa.Text),
        sa.Column("claimed_until", moment),
        sa.Column("assigned_to", sa.Text),
        sa.Column("snoozed_until", moment),
        sa.Column("remind_at", moment),
        sa.Column("remind_who", sa.Text),
        sa.Column("earlier_case_id", sa.Text),
        sa.Column("transactions", sa.Integer, nullable=False),
        sa.Column("undecided", sa.Integer, nullable=False),
        sa.Column("amount", sa.Float(53), nullable=False),
        sa.Column("expected_loss", sa.Float(53), nullable=False),
        sa.Column("max_score", sa.Float(53), nullable=False),
        sa.Column("last_event_at", moment, nullable=False),
    )
    op.create_table(
        "case_transactions",
        sa.Column("transaction_id", sa.Text, primary_key=True),
        sa.Column("case_id", _id(), nullable=False),
        sa.Column("event_time", moment, nullable=False),
        sa.Column("account_id", sa.Text),
        sa.Column("merchant_id", sa.Text),
        sa.Column("amount", sa.Float(53), nullable=False),
        sa.Column("score", sa.Float(53), nullable=False),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("probability", sa.Float(53), nullable=False),
        sa.Column("verdict", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("decided_by", sa.Text),
        sa.Column("decided_at", moment),
    )
    op.create_table(
        "case_facets",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("value", _id(), primary_key=True),
        sa.Column("case_id", _id(), primary_key=True),
    )


def _make_others() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "case_notes",
        sa.Column("note_id", sa.Text, primary_key=True),
        sa.Column("case_id", _id(), nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_table(
        "saved_views",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("filters", sa.Text, nullable=False),
        sa.Column("sort", sa.Text, nullable=False),
    )
    op.create_table(
        "list_requests",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("case_id", _id()),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("until", moment),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        sa.Column("asked_at", moment, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("decided_by", sa.Text),
        sa.Column("decided_at", moment),
        sa.Column("applied_at", moment),
        sa.Column("error", sa.Text),
    )
    op.create_table(
        "audit_log",
        sa.Column(
            "number", sa.Integer().with_variant(sa.BigInteger, "postgresql"), primary_key=True
        ),
        sa.Column("at", moment, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("case_id", _id()),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("previous", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
    )


def _refuse_changes() -> None:
    """Refuse every statement that changes or deletes an entry of the log."""
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_log_no_{change.lower()} BEFORE {change} ON audit_log "
                f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            )
        # INSERT OR REPLACE deletes without the trigger of deletions.
        op.execute(
            f"""
            CREATE TRIGGER audit_log_no_insert BEFORE INSERT ON audit_log
            WHEN NEW.number <= (SELECT max(number) FROM audit_log)
            BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END
            """  # noqa: S608 a constant
        )
        return
    op.execute(
        f"""
        CREATE FUNCTION audit_log_unchanged() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER audit_log_unchanged BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION audit_log_unchanged()
        """
    )

"""The tables of the review: cases, what people did with them, and the log of that."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Identity, Index, Integer, Table, Text, text

from beam_fraud.storage.database.tables import METADATA, UtcDateTime

#: A text that sorts by code points in both databases, so that a range of it is a prefix.
_ID = Text().with_variant(Text(collation="C"), "postgresql")
_OPEN = text("state = 'open'")
_DECIDED = text("verdict IS NOT NULL")
#: Columns of cases that counting and sorting them takes, and those that an index holds for filters.
_COUNTED = ("case_id", "snoozed_until", "expected_loss", "opened_at")
_DRAWN = ("case_id", "amount", "verdict")
_FILTERED = ("due_at", "snoozed_until", "claimed_until", "amount", "max_score", "assigned_to")

#: Flagged transactions that were written and may be in no case yet; one row per commit of a writer.
#: An index of flagged rows without a case, as of the few audited ones, would cost more to write.
REVIEW_INBOX = Table(
    "review_inbox",
    METADATA,
    # An identity: writers need no rights on a sequence.
    Column("number", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
    # A JSON list of ids; null for all flagged transactions after the id `after`.
    Column("transaction_ids", Text),
    Column("after", Text),
)

#: One row per case: the flagged and audited transactions of an account that were open at one time.
CASES = Table(
    "cases",
    METADATA,
    Column("case_id", _ID, primary_key=True),
    # Null: a case of one transaction that has no account.
    Column("account_id", _ID),
    # `open` or `closed`.
    Column("state", Text, nullable=False),
    # Counts the changes by people.
    Column("version", Integer, nullable=False),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    Column("closed_by", Text),
    # `fraud`, `genuine`, `unsure` or `mixed`; null before the decision.
    Column("verdict", Text),
    Column("claimed_by", Text),
    Column("claimed_until", UtcDateTime),
    Column("assigned_to", Text),
    Column("snoozed_until", UtcDateTime),
    Column("remind_at", UtcDateTime),
    Column("remind_who", Text),
    # The account's case before this one.
    Column("earlier_case_id", Text),
    # Of the transactions: their number, those without a verdict, and sums over all.
    Column("transactions", Integer, nullable=False),
    Column("undecided", Integer, nullable=False),
    Column("amount", Float(53), nullable=False),
    # Sum of score times amount.
    Column("expected_loss", Float(53), nullable=False),
    Column("max_score", Float(53), nullable=False),
    Column("last_event_at", UtcDateTime, nullable=False),
    # The two orders of the queue, with what its filters ask for.
    Index("cases_loss", "state", "expected_loss", "case_id", "opened_at", *_FILTERED),
    Index("cases_age", "state", "opened_at", "case_id", *_FILTERED),
    # Ranges that few cases may be in, with what it takes to count and sort them.
    Index("cases_due", "state", "due_at", *_COUNTED),
    Index("cases_amount", "state", "amount", *_COUNTED),
    Index("cases_score", "state", "max_score", *_COUNTED),
    Index("cases_verdict", "verdict", sqlite_where=_DECIDED, postgresql_where=_DECIDED),
    Index("cases_account", "account_id", "opened_at"),
    Index(
        "cases_open_account",
        "account_id",
        unique=True,
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    ),
    Index("cases_assigned", "assigned_to", "state", "expected_loss"),
    Index("cases_claimed", "claimed_until"),
    Index("cases_snoozed", "snoozed_until"),
    Index("cases_closed", "closed_at"),
    Index("cases_reminders", "remind_at"),
)

#: One row per transaction of a case. A transaction is in one case for ever: other models that flag
#: it later change at most its score.
CASE_TRANSACTIONS = Table(
    "case_transactions",
    METADATA,
    Column("transaction_id", Text, primary_key=True),
    Column("case_id", _ID, nullable=False),
    Column("event_time", UtcDateTime, nullable=False),
    Column("account_id", Text),
    Column("merchant_id", Text),
    Column("amount", Float(53), nullable=False),
    # The highest of its models; of an audited transaction a flagged one's, because people must not
    # see which transactions are audited. `audited_transactions` has the score.
    Column("score", Float(53), nullable=False),
    Column("model_id", Text, nullable=False),
    # With which people see it: 1 if it was flagged.
    Column("probability", Float(53), nullable=False),
    Column("verdict", Text),
    # A reason code.
    Column("reason", Text),
    Column("decided_by", Text),
    Column("decided_at", UtcDateTime),
    Index("case_transactions_case", "case_id"),
    Index("case_transactions_decided", "decided_at"),
    # Histories, and other cases of a merchant, with what drawings show.
    Index("case_transactions_account", "account_id", "event_time", *_DRAWN),
    Index("case_transactions_merchant", "merchant_id", "event_time", *_DRAWN),
)

#: What cases are found by beside their own columns: merchants, rules and models.
CASE_FACETS = Table(
    "case_facets",
    METADATA,
    # `merchant`, `rule` or `model`.
    Column("kind", Text, primary_key=True),
    Column("value", _ID, primary_key=True),
    Column("case_id", _ID, primary_key=True),
    Index("case_facets_case", "case_id"),
)

#: Values of the columns that runs declare by `--link`, of flagged and audited transactions: cases
#: that share one are linked. Another program may add values of its own.
LINKED_VALUES = Table(
    "linked_values",
    METADATA,
    Column("transaction_id", Text, primary_key=True),
    # The column, such as `device_id`.
    Column("name", Text, primary_key=True),
    Column("value", _ID, nullable=False),
    # Of the transaction.
    Column("event_time", UtcDateTime, nullable=False),
    # The newest transactions with a value, in order and without the table.
    Index("linked_values_newest", "name", "value", "event_time", "transaction_id"),
    Index("linked_values_event_time", "event_time"),
)

CASE_NOTES = Table(
    "case_notes",
    METADATA,
    Column("note_id", Text, primary_key=True),
    Column("case_id", _ID, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("who", Text, nullable=False),
    Column("text", Text, nullable=False),
    Index("case_notes_case", "case_id"),
)

#: Filters of the queue under a name.
SAVED_VIEWS = Table(
    "saved_views",
    METADATA,
    # A user; empty for a view of all.
    Column("owner", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    # JSON.
    Column("filters", Text, nullable=False),
    Column("sort", Text, nullable=False),
)

#: Entries that people ask for in the lists that rules name.
LIST_REQUESTS = Table(
    "list_requests",
    METADATA,
    Column("request_id", Text, primary_key=True),
    Column("case_id", _ID),
    # `account` or `merchant`.
    Column("kind", Text, nullable=False),
    # Its id.
    Column("value", Text, nullable=False),
    # `block`, `allow` or `watch`.
    Column("action", Text, nullable=False),
    # Name of the list.
    Column("list", Text, nullable=False),
    Column("until", UtcDateTime),
    Column("reason", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    # `waiting` for a second person, `approved`, `applied`, `refused` or `failed`.
    Column("state", Text, nullable=False),
    Column("decided_by", Text),
    Column("decided_at", UtcDateTime),
    Column("applied_at", UtcDateTime),
    Column("error", Text),
    Index("list_requests_state", "state", "asked_at"),
    Index("list_requests_case", "case_id"),
    Index("list_requests_value", "kind", "value"),
)

#: What people did; triggers refuse every change of a row. It names cases and requests, never
#: accounts, merchants or transactions, so that an erasure need not change it.
AUDIT_LOG = Table(
    "audit_log",
    METADATA,
    # From 1 on, without gaps.
    Column("number", Integer().with_variant(BigInteger, "postgresql"), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("case_id", _ID),
    # A JSON object.
    Column("detail", Text, nullable=False),
    # SHA-256 of the entry before, in hexadecimal; empty for the first.
    Column("previous", Text, nullable=False),
    # SHA-256 of this entry.
    Column("digest", Text, nullable=False),
    Index("audit_log_case", "case_id"),
    Index("audit_log_who", "who", "number"),
)

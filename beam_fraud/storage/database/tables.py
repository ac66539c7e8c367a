"""The tables of a database: flagged transactions, alerts, labels, runs and more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    inspect,
    select,
    text,
)
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC with microseconds.

    SQLite stores it as text of fixed width, which sorts by time, and returns it without a zone;
    PostgreSQL has a type for it.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert an aware time to UTC."""
        return None if value is None else value.astimezone(UTC)

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        """Convert as the base class does, but SQLite's text in one step, not three."""
        return _text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """Convert as the base class does, but SQLite's text in one step: a page has hundreds."""
        return _moment if dialect.name == "sqlite" else _in_utc

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Restore the time's zone."""
        return _in_utc(value)


def _in_utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _text(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    in_utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return in_utc.isoformat(" ", "microseconds")[: -len("+00:00")]


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    if len(text) == _WIDTH:
        # In one step, which is twice as fast.
        return datetime.fromisoformat(text + "+00:00")
    # Another program has written it, perhaps with a zone.
    return _in_utc(datetime.fromisoformat(text))


#: Characters of a time in SQLite.
_WIDTH = len("2024-01-01 00:00:00.000000")


METADATA = MetaData()


def _scored_columns() -> list[Column[Any]]:
    return [
        Column("event_time", UtcDateTime, nullable=False),
        Column("account_id", Text),
        Column("merchant_id", Text),
        Column("amount", Float(53), nullable=False),
        Column("score", Float(53), nullable=False),
        Column("decision", Text, nullable=False),
        # JSON lists.
        Column("rules", Text, nullable=False),
        Column("reasons", Text, nullable=False),
    ]


#: One row per flagged transaction and model.
FLAGGED = Table(
    "flagged_transactions",
    METADATA,
    Column("transaction_id", Text, primary_key=True),
    Column("model_id", Text, primary_key=True),
    *_scored_columns(),
    # The rule set that applied; and a JSON list.
    Column("rules_id", Text, info={"since": "0004"}),
    Column("shadow_rules", Text, info={"since": "0004"}),
    Index("flagged_transactions_event_time", "event_time"),
    Index("flagged_transactions_account", "account_id", "event_time"),
    Index("flagged_transactions_merchant", "merchant_id", "event_time"),
    Index("flagged_transactions_score", "score"),
)

#: One row per audited transaction and model: a random share of the unflagged ones, for people to
#: label, so that figures of all traffic can be estimated.
AUDITED = Table(
    "audited_transactions",
    METADATA,
    Column("transaction_id", Text, primary_key=True),
    Column("model_id", Text, primary_key=True),
    *_scored_columns(),
    Column("rules_id", Text),
    Column("shadow_rules", Text),
    # Share of the unflagged transactions of which it is one: above 0, at most 1.
    Column("probability", Float(53), nullable=False),
    # The case that people work on; null until one takes the row.
    Column("case_id", Text),
    Index("audited_transactions_event_time", "event_time"),
    Index("audited_transactions_account", "account_id", "event_time"),
    Index("audited_transactions_merchant", "merchant_id", "event_time"),
    Index(
        "audited_transactions_waiting",
        "case_id",
        sqlite_where=text("case_id IS NULL"),
        postgresql_where=text("case_id IS NULL"),
    ),
)

#: The outbox: one row per flagged transaction and channel. A row takes the newest scoring until it
#: is in a delivery, and stays unchanged from then on; `sent_at` is null until the delivery.
ALERTS = Table(
    "alerts",
    METADATA,
    Column("alert_id", Text, primary_key=True),
    Column("transaction_id", Text, nullable=False),
    Column("channel", Text, nullable=False),
    *_scored_columns(),
    Column("model_id", Text, nullable=False),
    Column("delivery_id", Text, info={"since": "0002"}),
    Column("sent_at", UtcDateTime),
    # A JSON list, and the time zone of `event_time` in messages.
    Column("fired_rules", Text, info={"since": "0003"}),
    Column("timezone", Text, info={"since": "0003"}),
    # Index of pending alerts alone: sent ones do not slow it down.
    Index(
        "alerts_waiting",
        "channel",
        "event_time",
        "alert_id",
        sqlite_where=text("delivery_id IS NULL"),
        postgresql_where=text("delivery_id IS NULL"),
    ),
    Index("alerts_delivery", "delivery_id"),
    Index("alerts_transaction", "transaction_id"),
    Index("alerts_account", "account_id"),
)

#: One row per message: its alerts (`alerts.delivery_id`) and its Message-ID are fixed here before
#: the first attempt to send it.
DELIVERIES = Table(
    "deliveries",
    METADATA,
    # Also the first half of the Message-ID.
    Column("delivery_id", Text, primary_key=True),
    Column("channel", Text, nullable=False),
    # `alerts`, `digest` (of more alerts than it shows), `notice` (text alone), `event` (what people
    # did in the review) or `label`.
    Column("kind", Text, nullable=False),
    # Account of the grouped alerts, or null.
    Column("account_id", Text),
    # Text of a notice or an event.
    Column("text", Text),
    # A JSON object: the event, the label, or what a notice says.
    Column("event", Text, info={"since": "0006"}),
    Column("created_at", UtcDateTime, nullable=False),
    # `waiting`, `sent` or `failed` (given up).
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_try_at", UtcDateTime),
    Column("last_error", Text),
    Column("sent_at", UtcDateTime),
    Index("deliveries_state", "channel", "state", "created_at"),
    Index("deliveries_account", "account_id", "channel", "created_at"),
)

#: Snoozed accounts, merchants and figures of the monitor.
SNOOZES = Table(
    "snoozes",
    METADATA,
    # `account`, `merchant` or `figure`.
    Column("kind", Text, primary_key=True),
    # Its id, or the name of the figure or feature.
    Column("value", Text, primary_key=True),
    Column("until", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

#: One row per invalid record.
DEAD_LETTERS = Table(
    "dead_letters",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("position", Integer().with_variant(BigInteger, "postgresql"), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("detail", Text),
    Column("payload", LargeBinary),
    Column("dead_at", UtcDateTime, nullable=False),
    Column("replayed_at", UtcDateTime),
    Index("dead_letters_waiting", "replayed_at", "reason"),
)

#: One row per erasure: what was deleted, not whose it was.
ERASURES = Table(
    "erasures",
    METADATA,
    Column("erasure_id", Text, primary_key=True),
    # `account` or `retention`.
    Column("kind", Text, nullable=False),
    # A keyed hash of the account, or the time before which rows were deleted.
    Column("subject", Text),
    Column("erased_at", UtcDateTime, nullable=False),
    # Table to deleted rows, as a JSON object.
    Column("rows", Text, nullable=False),
)

#: One row per label: the verdict of a person on a transaction at a time.
LABELS = Table(
    "labels",
    METADATA,
    Column("transaction_id", Text, primary_key=True),
    # Empty if unknown.
    Column("labelled_by", Text, primary_key=True),
    Column("labelled_at", UtcDateTime, primary_key=True),
    Column("account_id", Text),
    Column("merchant_id", Text),
    Column("event_time", UtcDateTime, nullable=False),
    # 1 is fraud, 0 genuine.
    Column("label", SmallInteger, nullable=False),
    # A reason code or a few words; null for none.
    Column("reason", Text, info={"since": "0005"}),
    # The probability with which the transaction was shown to people: 1 if it was flagged, that of
    # the audit if it was audited; null if it was neither, or if that is unknown.
    Column("probability", Float(53), info={"since": "0005"}),
    Index("labels_labelled_at", "labelled_at"),
)

# The view `latest_labels` has the newest label of each transaction; of two at one time, that of the
# alphabetically last name. `migrations/versions` creates it.

#: One row per run that wrote here: `running`, `succeeded` or `failed`; a killed one stays
#: `running`.
RUNS = Table(
    "runs",
    METADATA,
    Column("run_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
)


#: Version of the tables in `tables.py`: the last of `migrations/versions`.
VERSION = "0012"
#: Not Alembic's default name, which another program may use in the same database.
VERSION_TABLE = "beam_fraud_version"
_VERSIONS = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32), nullable=False))


def version_of(connection: Connection) -> str | None:
    """Return the version of the tables; None if they have none, or do not exist."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(_VERSIONS.c.version_num)).scalar()


def at_this_version(connection: Connection) -> bool:
    """Return whether the tables need no change."""
    return version_of(connection) == VERSION

"""Erase rows from every table of a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    delete,
    exists,
    func,
    or_,
    select,
    tuple_,
)

from beam_fraud.operations.erasure.subject import Accounts, Before, Subject
from beam_fraud.storage.database.connection import transaction, when_free, writing
from beam_fraud.storage.database.engines import engine
from beam_fraud.storage.database.errors import one_line_errors
from beam_fraud.storage.database.inbox import take_out
from beam_fraud.storage.database.review_tables import (
    CASE_FACETS,
    CASE_NOTES,
    CASE_TRANSACTIONS,
    CASES,
    LINKED_VALUES,
    LIST_REQUESTS,
)
from beam_fraud.storage.database.tables import (
    ALERTS,
    AUDITED,
    DEAD_LETTERS,
    DELIVERIES,
    FLAGGED,
    LABELS,
    RUNS,
    SNOOZES,
)

#: Maximum of rows deleted per transaction, which limits the wait of others.
ROWS_AT_A_TIME = 5_000
#: Dead letters checked together; each may have megabytes.
_RECORDS_AT_A_TIME = 500

_Keys = list[tuple[str, int]]


def erase_from_database(url: str, subject: Subject, *, dry_run: bool = False) -> dict[str, int]:
    """Delete the rows of a subject from every table, a few thousand in a transaction.

    An interrupted call is partly done; repeat it for the rest. SQLite's file is rewritten, so that
    no deleted rows remain in it. PostgreSQL keeps deleted rows in its files until a vacuum, and in
    backups.

    Args:
      url: a database after `prepare_database`.
      subject: accounts or a time limit.
      dry_run: only count the rows.

    Returns:
      Table to rows.

    Raises:
      FraudError: the database fails or cannot be reached.
    """
    counts = {}
    if isinstance(subject, Accounts):
        _note_known(url, subject)
    with _connection(url) as connection:
        if not dry_run:
            _take_out_of_inbox(url, connection, subject)
        for table, condition in _conditions(subject):
            if dry_run:
                query = select(func.count()).select_from(table).where(condition)
                with transaction(url) as reading:
                    counts[table.name] = int(reading.execute(query).scalar_one())
            else:
                counts[table.name] = _delete(url, connection, table, condition)
        if isinstance(subject, Accounts):
            counts[DEAD_LETTERS.name] = sum(
                len(keys) if dry_run else _delete_keys(url, connection, keys)
                for keys in _letters_with(url, subject)
            )
    if not dry_run:
        _rewrite(url)
    return counts


def _conditions(subject: Subject) -> list[tuple[Table, ColumnElement[bool]]]:
    """Return tables, dependent ones first, with the condition on their rows."""
    if isinstance(subject, Before):
        return _before(subject)
    ids = subject.ids
    of_cases = select(CASES.c.case_id).where(CASES.c.account_id.in_(ids))
    of_flagged = select(FLAGGED.c.transaction_id).where(FLAGGED.c.account_id.in_(ids))
    of_audited = select(AUDITED.c.transaction_id).where(AUDITED.c.account_id.in_(ids))
    of_alerts = select(ALERTS.c.transaction_id).where(ALERTS.c.account_id.in_(ids))
    in_delivery = and_(ALERTS.c.delivery_id == DELIVERIES.c.delivery_id)
    others = or_(ALERTS.c.account_id.is_(None), ALERTS.c.account_id.not_in(ids))
    in_cases = select(CASE_TRANSACTIONS.c.transaction_id).where(
        CASE_TRANSACTIONS.c.case_id.in_(of_cases)
    )
    of_labels = select(LABELS.c.transaction_id).where(LABELS.c.account_id.in_(ids))
    of_rows = (of_flagged, of_audited, of_alerts)
    linked = LINKED_VALUES.c.transaction_id
    return [
        (
            LINKED_VALUES,
            or_(*(linked.in_(some) for some in (*of_rows, in_cases, of_labels))),
        ),
        (CASE_TRANSACTIONS, CASE_TRANSACTIONS.c.case_id.in_(of_cases)),
        *_of_cases(of_cases),
        (
            LIST_REQUESTS,
            or_(
                LIST_REQUESTS.c.case_id.in_(of_cases),
                and_(LIST_REQUESTS.c.kind == "account", LIST_REQUESTS.c.value.in_(ids)),
            ),
        ),
        (CASES, CASES.c.account_id.in_(ids)),
        # A label may lack the account.
        (
            LABELS,
            or_(
                LABELS.c.account_id.in_(ids),
                *(LABELS.c.transaction_id.in_(some) for some in of_rows),
            ),
        ),
        (
            DELIVERIES,
            or_(
                DELIVERIES.c.account_id.in_(ids),
                and_(
                    exists().where(in_delivery, ALERTS.c.account_id.in_(ids)),
                    ~exists().where(in_delivery, others),
                ),
            ),
        ),
        (ALERTS, ALERTS.c.account_id.in_(ids)),
        (SNOOZES, and_(SNOOZES.c.kind == "account", SNOOZES.c.value.in_(ids))),
        (FLAGGED, FLAGGED.c.account_id.in_(ids)),
        (AUDITED, AUDITED.c.account_id.in_(ids)),
    ]


def _of_cases(cases: Select[str]) -> list[tuple[Table, ColumnElement[bool]]]:
    """Return what depends on cases; the audit log holds ids of cases, which say nothing then."""
    return [(table, table.c.case_id.in_(cases)) for table in (CASE_FACETS, CASE_NOTES)]


def _before(subject: Before) -> list[tuple[Table, ColumnElement[bool]]]:
    moment = subject.moment
    old_cases = CASES.c.last_event_at < moment
    of_cases = select(CASES.c.case_id).where(old_cases)
    younger = exists().where(
        ALERTS.c.delivery_id == DELIVERIES.c.delivery_id, ALERTS.c.event_time >= moment
    )
    return [
        (LINKED_VALUES, LINKED_VALUES.c.event_time < moment),
        (CASE_TRANSACTIONS, CASE_TRANSACTIONS.c.event_time < moment),
        *_of_cases(of_cases),
        (LIST_REQUESTS, LIST_REQUESTS.c.asked_at < moment),
        (CASES, old_cases),
        (LABELS, LABELS.c.event_time < moment),
        (DELIVERIES, and_(DELIVERIES.c.created_at < moment, ~younger)),
        (ALERTS, ALERTS.c.event_time < moment),
        (SNOOZES, SNOOZES.c.until < moment),
        (FLAGGED, FLAGGED.c.event_time < moment),
        (AUDITED, AUDITED.c.event_time < moment),
        (DEAD_LETTERS, DEAD_LETTERS.c.dead_at < moment),
        (RUNS, RUNS.c.started_at < moment),
    ]


def _delete(url: str, connection: Connection, table: Table, condition: ColumnElement[bool]) -> int:
    key = list(table.primary_key.columns)
    some = select(*key).where(condition).limit(ROWS_AT_A_TIME)
    named = key[0].in_(some) if len(key) == 1 else tuple_(*key).in_(some)
    total = 0
    while True:
        with writing(url, connection):
            rows = connection.execute(delete(table).where(named)).rowcount
        total += rows
        if rows < ROWS_AT_A_TIME:
            return total


def _take_out_of_inbox(url: str, connection: Connection, subject: Subject) -> None:
    """Take transactions that will be erased out of the inbox, which is no record of its own."""
    erased: ColumnElement[bool]
    if isinstance(subject, Accounts):
        erased = FLAGGED.c.account_id.in_(subject.ids)
    else:
        erased = FLAGGED.c.event_time < subject.moment
    query = select(FLAGGED.c.transaction_id).where(erased)
    with writing(url, connection):
        take_out(connection, connection.scalars(query).all())


def _note_known(url: str, subject: Accounts) -> None:
    """Record the accounts that occur in the database."""
    tables = (LABELS, DELIVERIES, ALERTS, FLAGGED, AUDITED, CASES, CASE_TRANSACTIONS)
    accounts = [table.c.account_id for table in tables]
    queries = [select(column).where(column.in_(subject.ids)) for column in accounts]
    queries.append(
        select(LIST_REQUESTS.c.value).where(
            LIST_REQUESTS.c.kind == "account", LIST_REQUESTS.c.value.in_(subject.ids)
        )
    )
    queries.append(
        select(SNOOZES.c.value).where(SNOOZES.c.kind == "account", SNOOZES.c.value.in_(subject.ids))
    )
    with transaction(url) as connection:
        for query in queries:
            subject.note(connection.scalars(query.distinct()))


def _letters_with(url: str, subject: Accounts) -> Iterator[_Keys]:
    """Yield keys of dead letters whose record or detail contains an id."""
    table = DEAD_LETTERS.c
    query = (
        select(table.source, table.position, table.detail, table.payload)
        .order_by(table.source, table.position)
        .limit(_RECORDS_AT_A_TIME)
    )
    page = query
    while True:
        with transaction(url) as connection:
            rows = connection.execute(page).all()
        if not rows:
            return
        yield [
            (source, position)
            for source, position, detail, payload in rows
            # No short circuit: each may contain another account.
            if subject.are_in(payload or b"") | subject.are_in((detail or "").encode())
        ]
        source, position = rows[-1][:2]
        page = query.where(
            or_(
                table.source > source,
                and_(table.source == source, table.position > position),
            )
        )


def _delete_keys(url: str, connection: Connection, keys: _Keys) -> int:
    if not keys:
        return 0
    named = tuple_(DEAD_LETTERS.c.source, DEAD_LETTERS.c.position).in_(keys)
    with writing(url, connection):
        return connection.execute(delete(DEAD_LETTERS).where(named)).rowcount


@contextmanager
def _connection(url: str) -> Iterator[Connection]:
    """Open a connection that overwrites deleted rows, where possible."""
    with one_line_errors(url), engine(url).connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
            connection.rollback()
        yield connection


def _rewrite(url: str) -> None:
    """Rewrite an SQLite file: free pages contain deleted rows."""
    with one_line_errors(url), engine(url).connect() as connection:
        if connection.dialect.name != "sqlite":
            return
        alone = connection.execution_options(isolation_level="AUTOCOMMIT")
        when_free(alone, url, "VACUUM")
        when_free(alone, url, "PRAGMA wal_checkpoint(TRUNCATE)")

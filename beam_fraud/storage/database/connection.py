"""Transactions of a database, and creation and checks of its tables."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from time import monotonic, sleep

from sqlalchemy import Connection, Table, TextClause, inspect, text
from sqlalchemy.exc import OperationalError

from beam_fraud.errors import Code, FraudError
from beam_fraud.monitoring.waiting import Wait
from beam_fraud.storage.atomic import check_writable, make_directory
from beam_fraud.storage.database import people_tables as people_tables
from beam_fraud.storage.database.engines import SILENT_SECONDS, reading_engine
from beam_fraud.storage.database.engines import engine as engine
from beam_fraud.storage.database.errors import is_locked
from beam_fraud.storage.database.errors import one_line_errors as one_line_errors
from beam_fraud.storage.database.review_tables import AUDIT_LOG
from beam_fraud.storage.database.tables import (
    METADATA,
    VERSION,
    VERSION_TABLE,
    at_this_version,
    version_of,
)
from beam_fraud.storage.database.url import database_file
from beam_fraud.storage.database.url import masked as masked
from beam_fraud.storage.database.url import sqlite_url as sqlite_url

#: Version of tables from before versions existed.
_FIRST = "0001"
_LOG = logging.getLogger(__name__)
#: Seconds that a writer waits for another's lock.
BUSY_SECONDS = 60.0


def check_file(file: Path, url: str) -> bool:
    """Check that an SQLite file is writable or can be created; return whether it exists.

    Raises:
      FraudError: it cannot be written.
    """
    if not file.exists():
        check_writable(file.parent)
        return False
    if not file.is_file():
        raise FraudError(
            f"database {masked(url)}: {file} is not a file, give another one", Code.DATABASE_FILE
        )
    for needed in (file, file.parent):
        if not os.access(needed, os.W_OK):
            raise FraudError(
                f"database {masked(url)}: {needed} may not be written to", Code.DATABASE_RIGHTS
            )
    return True


def check_tables(connection: Connection, url: str) -> None:
    """Check that tables with our names are ours, of this version or an older one.

    Raises:
      FraudError: a table is foreign, or of a newer version.
    """
    version = version_of(connection) or _FIRST
    if version > VERSION:
        raise FraudError(
            f"database {masked(url)}: its tables are of version {version}, this beam-fraud knows "
            f"them up to {VERSION}; install a newer one",
            Code.DATABASE_TABLES,
        )
    for table in METADATA.sorted_tables:
        if inspect(connection).has_table(table.name):
            _check_table(connection, table, url, version)


def _check_table(connection: Connection, table: Table, url: str, version: str) -> None:
    inspector = inspect(connection)
    there = {column["name"] for column in inspector.get_columns(table.name)}
    expected = [c.name for c in table.columns if c.info.get("since", _FIRST) <= version]
    missing = [name for name in expected if name not in there]
    key = [column.name for column in table.primary_key.columns]
    if missing:
        wrong = f"lacks the column {missing[0]!r}"
    elif set(inspector.get_pk_constraint(table.name)["constrained_columns"]) != set(key):
        wrong = f"does not have the key ({', '.join(key)})"
    else:
        return
    raise FraudError(
        f"database {masked(url)}: table {table.name!r} {wrong}; give another database or drop it",
        Code.DATABASE_TABLES,
    )


def check_rights(connection: Connection, url: str) -> None:
    """Check that PostgreSQL permits writing to existing tables and creating the others.

    Raises:
      FraudError: it does not permit it.
    """
    where = f"database {masked(url)}"
    if connection.scalar(text("SHOW transaction_read_only")) == "on":
        raise FraudError(
            f"{where}: takes no writes (a replica?); give the primary server", Code.DATABASE_RIGHTS
        )
    schema = connection.scalar(text("SELECT current_schema()"))
    if schema is None:
        raise FraudError(
            f"{where}: no schema of its search_path is there; make one or give another",
            Code.DATABASE_RIGHTS,
        )
    for name in (VERSION_TABLE, *METADATA.tables):
        if inspect(connection).has_table(name):
            rights = ["SELECT", "INSERT"]
            # Nobody changes the log: an administrator may take these rights away.
            rights += ["UPDATE", "DELETE"] if name != AUDIT_LOG.name else []
            query = text("SELECT has_table_privilege(:name, :right)")
            granted = (connection.scalar(query, {"name": name, "right": r}) for r in rights)
            if not all(granted):
                raise FraudError(
                    f"{where}: its user may not write to table {name!r}; grant "
                    f"{', '.join(rights)} on it",
                    Code.DATABASE_RIGHTS,
                )
    if version_of(connection) != VERSION:
        query = text("SELECT has_schema_privilege(:name, 'CREATE')")
        if not connection.scalar(query, {"name": schema}):
            raise FraudError(
                f"{where}: its user may not make tables in schema {schema!r}; grant CREATE on it",
                Code.DATABASE_RIGHTS,
            )


def when_free(
    connection: Connection, url: str, statement: str, patience: float | None = None
) -> None:
    """Execute an SQLite statement that waits for other processes, and log the wait.

    Args:
      connection: a connection to `url`.
      url: of the database, for messages.
      statement: a statement that waits for a lock and does nothing before.
      patience: seconds to wait; None for `BUSY_SECONDS`.

    Raises:
      OperationalError: the database stayed locked.
    """
    started, wait = monotonic(), Wait(_LOG)
    patience = BUSY_SECONDS if patience is None else patience
    while True:
        try:
            connection.exec_driver_sql(statement)
            wait.over(f"database {masked(url)}: free")
            return
        except OperationalError as error:
            waited = monotonic() - started
            if not is_locked(error) or waited >= patience:
                raise
        if waited >= SILENT_SECONDS:
            wait.goes_on(
                f"database {masked(url)}: locked by another process, waiting up to {patience:g} "
                "seconds for it"
            )
        # SQLite refuses some locks at once.
        sleep(0.05)


@contextmanager
def transaction(url: str) -> Iterator[Connection]:
    """Open a connection in a read transaction; errors as in `one_line_errors`."""
    with one_line_errors(url), engine(url).begin() as connection:
        yield connection


@contextmanager
def reading(url: str) -> Iterator[Connection]:
    """Open a connection whose statements are transactions of their own; errors as above.

    They see what they would see in one transaction, which would cost a server two round trips.
    """
    with one_line_errors(url), reading_engine(url).connect() as connection:
        yield connection


@contextmanager
def writing(
    url: str,
    connection: Connection | None = None,
    *,
    patience: float | None = None,
    longest: float | None = None,
) -> Iterator[Connection]:
    """Begin a write transaction; errors as in `one_line_errors`.

    Args:
      url: the database.
      connection: an open connection; None for a new one.
      patience: seconds to wait for locks; None for `BUSY_SECONDS`.
      longest: seconds of one statement on a server; None for its own limit.
    """
    with one_line_errors(url), ExitStack() as stack:
        if connection is None:
            connection = stack.enter_context(engine(url).connect())
        with connection.begin():
            if connection.dialect.name == "sqlite":
                # Lock first: values read before the lock could not be written back.
                when_free(connection, url, "BEGIN IMMEDIATE", patience)
            else:
                limits = {"lock_timeout": BUSY_SECONDS if patience is None else patience}
                if longest is not None:
                    limits["statement_timeout"] = longest
                milliseconds = {name: str(round(1000 * value)) for name, value in limits.items()}
                connection.execute(_limiting(tuple(limits)), milliseconds)
            yield connection


@cache
def _limiting(names: tuple[str, ...]) -> TextClause:
    """Return the statement that sets parameters of a server until the transaction ends."""
    settings = (f"set_config('{name}', :{name}, true)" for name in names)
    return text(f"SELECT {', '.join(settings)}")


def check_database(url: str, patience: float | None = None) -> None:
    """Check that the database is writable and its tables are ours, changing nothing.

    Args:
      url: the database.
      patience: seconds to wait for locks; None for `BUSY_SECONDS`.

    Raises:
      FraudError: it cannot be reached or written, or a table has other columns than this version's.
    """
    file = database_file(url)
    if file is not None and not check_file(file, url):
        return
    with one_line_errors(url), engine(url).connect() as connection:
        if file is not None:
            when_free(connection, url, "SELECT count(*) FROM sqlite_master", patience)
        else:
            check_rights(connection, url)
        check_tables(connection, url)


def prepare_for_reading(url: str) -> None:
    """Check that the tables can be read; create or migrate those of another version.

    Tables of this version need no right to write: the database may be a replica.

    Raises:
      FraudError: the database cannot be reached, or a table is foreign; or its tables are of
        another version, and it takes no writes.
    """
    file = database_file(url)
    if file is None or file.exists():
        with transaction(url) as connection:
            if at_this_version(connection):
                check_tables(connection, url)
                return
    prepare_database(url)


def prepare_database(url: str, patience: float | None = None) -> None:
    """Check the database as `check_database` does, and create or migrate its tables.

    Args:
      url: the database.
      patience: as in `check_database`.

    Raises:
      FraudError: as in `check_database`.
    """
    check_database(url, patience)
    file = database_file(url)
    if file is not None:
        make_directory(file.parent)
        with one_line_errors(url), engine(url).connect() as connection:
            # Readers and one writer need not wait for each other; stored in the file.
            when_free(connection, url, "PRAGMA journal_mode = WAL", patience)
    with transaction(url) as connection:
        if at_this_version(connection):
            return
    with writing(url, patience=patience) as connection:
        # Imported here: it takes half a second, and most databases are up to date.
        from beam_fraud.storage.database.migrations import migrate

        migrate(connection)

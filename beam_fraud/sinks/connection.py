"""Connections to a database, and its tables made or checked."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from time import monotonic, sleep

from sqlalchemy import Connection, Engine, Table, create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex, CreateTable

from beam_fraud.errors import FraudError
from beam_fraud.sinks.folder import check_writable, make_directory
from beam_fraud.sinks.tables import METADATA, VIEWS

_LOG = logging.getLogger(__name__)
#: How long a writer waits for another process's transaction, in seconds.
BUSY_SECONDS = 60.0
#: How long it waits in silence.
SILENT_SECONDS = 5.0
#: How SQLite says that another process holds a lock.
_LOCKED = "database is locked"


@lru_cache
def engine(url: str) -> Engine:
    """The engine for a database URL; it keeps no connection, so a forked worker may use it too."""
    return create_engine(url, poolclass=NullPool, connect_args={"timeout": SILENT_SECONDS})


def sqlite_url(file: Path) -> str:
    """The database URL of an SQLite file, given by its absolute path."""
    return URL.create("sqlite", database=str(file)).render_as_string()


def masked(url: str) -> str:
    """A database URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


@contextmanager
def one_line_errors(url: str) -> Iterator[None]:
    """Turn what a database says into one line that names it.

    Raises:
      FraudError: any error of the database inside the block.
    """
    try:
        yield
    except DBAPIError as error:
        said = " ".join(str(error.orig).split())
        if said == _LOCKED:
            said = "locked by another process; run again when that has finished, or stop it"
        raise FraudError(f"database {masked(url)}: {said}") from None
    except SQLAlchemyError as error:
        raise FraudError(f"database {masked(url)}: {' '.join(str(error).split())}") from None


def when_free(connection: Connection, url: str, statement: str) -> None:
    """Execute a statement that has to wait for other processes, telling that it does.

    Args:
      connection: to `url`.
      url: for messages.
      statement: one that waits for a lock and does nothing before it has it.

    Raises:
      OperationalError: the database was locked for `BUSY_SECONDS`.
    """
    started, told = monotonic(), False
    while True:
        try:
            connection.exec_driver_sql(statement)
            return
        except OperationalError as error:
            waited = monotonic() - started
            if str(error.orig) != _LOCKED or waited >= BUSY_SECONDS:
                raise
        if not told and waited >= SILENT_SECONDS:
            _LOG.warning(
                "database %s: locked by another process, waiting up to %g seconds for it",
                masked(url),
                BUSY_SECONDS,
            )
            told = True
        # Some locks are refused at once.
        sleep(0.05)


@contextmanager
def transaction(url: str) -> Iterator[Connection]:
    """A connection in a transaction of its own that reads; errors as in `one_line_errors`."""
    with one_line_errors(url), engine(url).begin() as connection:
        yield connection


@contextmanager
def writing(url: str, connection: Connection | None = None) -> Iterator[Connection]:
    """A transaction that may write; errors as in `one_line_errors`.

    Args:
      url: the database.
      connection: one to it that is open already; one of its own if None.
    """
    with one_line_errors(url), ExitStack() as stack:
        if connection is None:
            connection = stack.enter_context(engine(url).connect())
        with connection.begin():
            # Its turn comes first: what was read before could not be written back.
            when_free(connection, url, "BEGIN IMMEDIATE")
            yield connection


def check_database(url: str) -> None:
    """See that the database can be written to and that its tables are ours, changing nothing.

    Raises:
      FraudError: it cannot be reached or written, or a table is not as this version writes it.
    """
    file = Path(make_url(url).database or "")
    if not file.exists():
        check_writable(file.parent)
        return
    if not file.is_file():
        raise FraudError(f"database {masked(url)}: {file} is not a file, give another one")
    for needed in (file, file.parent):
        if not os.access(needed, os.W_OK):
            raise FraudError(f"database {masked(url)}: {needed} may not be written to")
    with one_line_errors(url), engine(url).connect() as connection:
        when_free(connection, url, "SELECT count(*) FROM sqlite_master")
        for table in METADATA.sorted_tables:
            if inspect(connection).has_table(table.name):
                _check_table(connection, table, url)


def prepare_database(url: str) -> None:
    """Check the database as `check_database` does and make the tables and views that are missing.

    Raises:
      FraudError: as in `check_database`.
    """
    check_database(url)
    make_directory(Path(make_url(url).database or "").parent)
    with one_line_errors(url), engine(url).connect() as connection:
        # Readers and one writer at a time without waiting for each other; kept in the file.
        when_free(connection, url, "PRAGMA journal_mode = WAL")
    with writing(url) as connection:
        for table in METADATA.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))
        there = inspect(connection).get_view_names()
        for view, statement in VIEWS.items():
            if view not in there:
                connection.exec_driver_sql(statement)


def _check_table(connection: Connection, table: Table, url: str) -> None:
    inspector = inspect(connection)
    there = {column["name"] for column in inspector.get_columns(table.name)}
    missing = [column.name for column in table.columns if column.name not in there]
    key = [column.name for column in table.primary_key.columns]
    if missing:
        wrong = f"lacks the column {missing[0]!r}"
    elif set(inspector.get_pk_constraint(table.name)["constrained_columns"]) != set(key):
        wrong = f"does not have the key ({', '.join(key)})"
    else:
        return
    raise FraudError(
        f"database {masked(url)}: table {table.name!r} {wrong}; give another database or drop it"
    )

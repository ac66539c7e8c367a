"""Transactions of a database, and its tables made or checked."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic, sleep

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from beam_fraud.monitoring.waiting import Wait
from beam_fraud.storage.database.check import check_file, check_rights, check_tables
from beam_fraud.storage.database.engines import SILENT_SECONDS
from beam_fraud.storage.database.engines import engine as engine
from beam_fraud.storage.database.errors import is_locked
from beam_fraud.storage.database.errors import one_line_errors as one_line_errors
from beam_fraud.storage.database.tables import at_this_version
from beam_fraud.storage.database.url import database_file
from beam_fraud.storage.database.url import masked as masked
from beam_fraud.storage.database.url import sqlite_url as sqlite_url
from beam_fraud.storage.folder import make_directory

_LOG = logging.getLogger(__name__)
#: How long a writer waits for another one's lock, in seconds.
BUSY_SECONDS = 60.0


def when_free(
    connection: Connection, url: str, statement: str, patience: float | None = None
) -> None:
    """Execute a statement of SQLite that has to wait for other processes, telling that it does.

    Args:
      connection: to `url`.
      url: for messages.
      statement: one that waits for a lock and does nothing before it has it.
      patience: for how many seconds; `BUSY_SECONDS` if None.

    Raises:
      OperationalError: the database was locked for so long.
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
        # Some locks are refused at once.
        sleep(0.05)


@contextmanager
def transaction(url: str) -> Iterator[Connection]:
    """A connection in a transaction of its own that reads; errors as in `one_line_errors`."""
    with one_line_errors(url), engine(url).begin() as connection:
        yield connection


@contextmanager
def writing(
    url: str, connection: Connection | None = None, *, patience: float | None = None
) -> Iterator[Connection]:
    """A transaction that may write; errors as in `one_line_errors`.

    Args:
      url: the database.
      connection: one to it that is open already; one of its own if None.
      patience: for how many seconds it waits for locks of others; `BUSY_SECONDS` if None.
    """
    with one_line_errors(url), ExitStack() as stack:
        if connection is None:
            connection = stack.enter_context(engine(url).connect())
        with connection.begin():
            if connection.dialect.name == "sqlite":
                # Its turn comes first: what was read before could not be written back.
                when_free(connection, url, "BEGIN IMMEDIATE", patience)
            else:
                seconds = BUSY_SECONDS if patience is None else patience
                limit = text("SELECT set_config('lock_timeout', :ms, true)")
                connection.execute(limit, {"ms": str(round(seconds * 1000))})
            yield connection


def check_database(url: str, patience: float | None = None) -> None:
    """See that the database can be written to and that its tables are ours, changing nothing.

    Args:
      url: the database.
      patience: for how many seconds it waits for locks of others; `BUSY_SECONDS` if None.

    Raises:
      FraudError: it cannot be reached or written, or a table is not as this version writes it.
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


def prepare_database(url: str, patience: float | None = None) -> None:
    """Check the database as `check_database` does, and make or change its tables to this version.

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
            # Readers and one writer at a time without waiting for each other; kept in the file.
            when_free(connection, url, "PRAGMA journal_mode = WAL", patience)
    with transaction(url) as connection:
        if at_this_version(connection):
            return
    with writing(url, patience=patience) as connection:
        # Takes half a second to import, and most databases are up to date.
        from beam_fraud.storage.database.migrations.migrate import migrate

        migrate(connection)

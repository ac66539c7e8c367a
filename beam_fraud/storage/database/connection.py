"""Transactions of a database, and creation and checks of its tables."""

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
#: Seconds that a writer waits for another's lock.
BUSY_SECONDS = 60.0


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
def writing(
    url: str, connection: Connection | None = None, *, patience: float | None = None
) -> Iterator[Connection]:
    """Begin a write transaction; errors as in `one_line_errors`.

    Args:
      url: the database.
      connection: an open connection; None for a new one.
      patience: seconds to wait for locks; None for `BUSY_SECONDS`.
    """
    with one_line_errors(url), ExitStack() as stack:
        if connection is None:
            connection = stack.enter_context(engine(url).connect())
        with connection.begin():
            if connection.dialect.name == "sqlite":
                # Lock first: values read before the lock could not be written back.
                when_free(connection, url, "BEGIN IMMEDIATE", patience)
            else:
                seconds = BUSY_SECONDS if patience is None else patience
                limit = text("SELECT set_config('lock_timeout', :ms, true)")
                connection.execute(limit, {"ms": str(round(seconds * 1000))})
            yield connection


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
        from beam_fraud.storage.database.migrations.migrate import migrate

        migrate(connection)

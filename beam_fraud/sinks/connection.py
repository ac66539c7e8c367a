"""Connections to a database, and its tables made or checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from sqlalchemy import Connection, Engine, Table, create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex, CreateTable

from beam_fraud.errors import FraudError
from beam_fraud.sinks.folder import make_directory
from beam_fraud.sinks.tables import METADATA

#: How long a writer waits for another process's transaction, in seconds.
BUSY_SECONDS = 60.0


@lru_cache
def engine(url: str) -> Engine:
    """The engine for a database URL; it keeps no connection, so a forked worker may use it too."""
    return create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS})


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
        raise FraudError(f"database {masked(url)}: {said}") from None
    except SQLAlchemyError as error:
        raise FraudError(f"database {masked(url)}: {' '.join(str(error).split())}") from None


@contextmanager
def transaction(url: str) -> Iterator[Connection]:
    """A connection in a transaction of its own; errors as in `one_line_errors`."""
    with one_line_errors(url), engine(url).begin() as connection:
        yield connection


def prepare_database(url: str) -> None:
    """Reach the database, make the tables that are missing and check those that are there.

    Raises:
      FraudError: it cannot be reached or written, or a table is not as this version writes it.
    """
    file = make_url(url).database
    if file is not None:
        make_directory(Path(file).parent)
    with one_line_errors(url), engine(url).connect() as connection:
        # Readers and one writer at a time without waiting for each other; kept in the file.
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        for table in METADATA.sorted_tables:
            if inspect(connection).has_table(table.name):
                _check_table(connection, table, url)
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))
        connection.commit()


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

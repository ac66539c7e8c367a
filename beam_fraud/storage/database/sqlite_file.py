"""SQLite files private to this program, without the tables of `tables`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from beam_fraud.errors import Code, FraudError

#: Error of a repeated key.
IntegrityError = sqlite3.IntegrityError


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection for any thread, in autocommit mode until a transaction begins.

    Raises:
      sqlite3.Error: the file cannot be opened or created.
    """
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a connection to a file that nobody writes.

    Raises:
      FraudError: it cannot be read.
    """
    address = f"{path.as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise FraudError(f"{path}: cannot be read: {error}", Code.DATABASE_FILE) from None


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a connection in a transaction, committed if the body succeeds.

    Raises:
      FraudError: the file cannot be written.
    """
    try:
        with closing(sqlite3.connect(path)) as connection, connection:
            yield connection
    except sqlite3.Error as error:
        raise FraudError(f"{path}: cannot be written: {error}", Code.DATABASE_FILE) from None

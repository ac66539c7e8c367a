"""SQLite files private to this program, without the tables of `tables`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Thread

from beam_fraud.errors import Code, FraudError

#: Size of a write-ahead log that is copied into its file, and what a commit adds at least.
_LOG_BYTES, _COMMIT_BYTES = 4 << 20, 4 << 12
#: Error of a repeated key.
IntegrityError = sqlite3.IntegrityError


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection for any thread, in autocommit mode until a transaction begins.

    Raises:
      sqlite3.Error: the file cannot be opened or created.
    """
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


class WriteBack:
    """Copy the write-ahead log of a file back into it, in a thread.

    SQLite copies it whole in a commit, which then takes some tenths of a second with a busy disk.
    Here a thread copies what there is; the next commit copies only the pages since, after which
    SQLite writes the log from its beginning again.

    Args:
      path: the file.
      connection: the one that writes it, in the mode WAL.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path, self._connection = path, connection
        #: Bytes of the log that are not copied, about.
        self._bytes = 0
        self._thread: Thread | None = None
        connection.execute("PRAGMA wal_autocheckpoint = 0")

    def changed(self, size: int) -> None:
        """Count bytes of a change."""
        self._bytes += size

    def committed(self) -> None:
        """Copy the log if it is long; after a commit."""
        self._bytes += _COMMIT_BYTES
        if self._thread is not None:
            if not self._thread.is_alive():
                self._thread, self._bytes = None, 0
                _copy_log(self._connection)
        elif self._bytes >= _LOG_BYTES:
            self._thread = Thread(target=self._copy, daemon=True, name="write-back")
            self._thread.start()

    def close(self) -> None:
        """Wait for the thread; before the connection is closed."""
        if self._thread is not None:
            self._thread.join()

    def _copy(self) -> None:
        with suppress(sqlite3.Error), closing(connect(self._path)) as connection:
            _copy_log(connection)


def _copy_log(connection: sqlite3.Connection) -> None:
    # A disk that is full fails the next commit, too, which says so; the log keeps what is in it.
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a connection to a file that no process writes.

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

"""Elect one sender per channel and database among many processes."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.database.engines import engine
from beam_fraud.storage.database.errors import one_line_errors
from beam_fraud.storage.database.url import database_file, masked
from beam_fraud.storage.lock import FileLock, lock


class Claim:
    """The exclusive right to send a channel's alerts, with a connection to the database.

    The claim ends with its process. In PostgreSQL the claim is an advisory lock of the session; for
    SQLite it is a lock on a file beside the database. For one thread.
    """

    def __init__(self, url: str, channel: str) -> None:
        self._url = url
        digest = hashlib.sha256(f"beam-fraud alerts\0{channel}".encode()).digest()[:8]
        self._key = int.from_bytes(digest, "big", signed=True)
        self._connection: Connection | None = None
        self._lock: FileLock | None = None

    def take(self) -> Connection | None:
        """Return the connection, outside a transaction; None if another sender has the claim.

        Raises:
          FraudError: the database cannot be reached.
        """
        if self._connection is not None:
            return self._connection
        file = database_file(self._url)
        if file is not None and not self._lock_file(file):
            return None
        try:
            with one_line_errors(self._url):
                connection = engine(self._url).connect()
                # A pool would keep the session open, and hold the lock.
                connection.detach()
                if file is None and not self._lock_session(connection):
                    connection.close()
                    return None
        except BaseException:
            self._unlock_file()
            raise
        self._connection = connection
        return connection

    def release(self) -> None:
        """Release the claim and close the connection, which may be broken."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.rollback()
                # Unlock now: a server notices the end of a session with a delay.
                if self._lock is None:
                    connection.scalar(select(func.pg_advisory_unlock(self._key)))
            with suppress(SQLAlchemyError):
                connection.close()
        self._unlock_file()

    def _lock_session(self, connection: Connection) -> bool:
        with connection.begin():
            return bool(connection.scalar(select(func.pg_try_advisory_lock(self._key))))

    def _lock_file(self, database: Path) -> bool:
        path = database.with_name(f"{database.name}-alerts-{self._key & (1 << 64) - 1:016x}.lock")
        try:
            # Leave the lock file: another process may wait for it.
            self._lock = lock(path, mode=0o666)
        except BlockingIOError:
            return False
        except OSError as error:
            raise FraudError(
                f"database {masked(self._url)}: {path} cannot be locked ({error.strerror})",
                Code.DATABASE_FILE,
            ) from None
        return True

    def _unlock_file(self) -> None:
        held, self._lock = self._lock, None
        if held is not None:
            held.release()

"""One sender for a channel of a database, however many processes want to be it."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from beam_fraud.errors import FraudError
from beam_fraud.storage.database.engines import engine
from beam_fraud.storage.database.errors import one_line_errors
from beam_fraud.storage.database.url import database_file, masked
from beam_fraud.storage.lock import FileLock, lock


class Claim:
    """The right to send the alerts of a channel, with a connection to the database.

    A process that dies lets go of it. In PostgreSQL it is an advisory lock of the session, so it
    lasts as long as the connection; beside an SQLite file it is a lock on a file of its own.
    For one thread alone.
    """

    def __init__(self, url: str, channel: str) -> None:
        """Be ready to claim `channel` in the database `url`; nothing is touched yet."""
        self._url = url
        digest = hashlib.sha256(f"beam-fraud alerts\0{channel}".encode()).digest()[:8]
        self._key = int.from_bytes(digest, "big", signed=True)
        self._connection: Connection | None = None
        self._lock: FileLock | None = None

    def take(self) -> Connection | None:
        """The connection, in no transaction; None if another sender has the claim.

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
                # A pool would keep the session, and the lock with it.
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
        """Let go of the claim and the connection, which may be broken."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.rollback()
                # A server takes a moment to see that a session is over.
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
            # It stays when it is done with: another may wait for it by now.
            self._lock = lock(path, mode=0o666)
        except BlockingIOError:
            return False
        except OSError as error:
            raise FraudError(
                f"database {masked(self._url)}: {path} cannot be locked ({error.strerror})"
            ) from None
        return True

    def _unlock_file(self) -> None:
        held, self._lock = self._lock, None
        if held is not None:
            held.release()

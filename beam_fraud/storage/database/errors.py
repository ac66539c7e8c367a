"""Convert database errors to one line, and tell transient ones."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.database.url import masked

#: PostgreSQL's codes of transient errors, by prefix: connections (08), too many connections or a
#: full disk (53), a server that stops or starts (57P), time-outs and cancelled statements (57014,
#: 25P03), locks (55P03), conflicts of transactions (40), a server that is a replica for now
#: (25006), failing disks (58).
_PASSING_STATES = ("08", "53", "57P", "57014", "25P03", "25P04", "55P03", "40", "25006", "58")
#: Refused connections have no code. Texts of those that no retry can mend.
_REFUSED_FOR_GOOD = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "pg_hba.conf",
    "certificate",
    "SSL",
    "permission denied",
    "not currently accepting connections",
    "invalid",
)
_FILES_LEFT = "and the limit of open files (ulimit -n)"
#: SQLite's codes of transient errors: busy, locked, out of memory, I/O error, full, locking
#: protocol.
_PASSING_SQLITE = {5, 6, 7, 10, 13, 15}
#: Among them, I/O errors of writes: an exhausted quota is one, and a limit on the size of files.
_DISK_TAKES_NO_MORE = {
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_DIR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
}
#: PostgreSQL's codes for a full disk, and for one that fails.
_DISK_STATES = {"53100", "58030"}


class PassingDatabaseError(FraudError):
    """A transient database error: it is down, slow, locked or full."""


class LockedDatabaseError(PassingDatabaseError):
    """Another process holds the lock of an SQLite file."""


class FullDatabaseError(PassingDatabaseError):
    """A database's disk is full or fails: transient, but waiting does not help."""


@contextmanager
def one_line_errors(url: str) -> Iterator[None]:
    """Convert database errors to one line that names the database.

    Raises:
      PassingDatabaseError: a retry may help.
      FraudError: any other error of the database inside the block.
    """
    try:
        yield
    except DBAPIError as error:
        kind, code = _kind(error)
        raise kind(f"database {masked(url)}: {_message(error)}", code) from None
    except SQLAlchemyError as error:
        raise FraudError(
            f"database {masked(url)}: {' '.join(str(error).split())}", Code.DATABASE_REFUSED
        ) from None


def _kind(error: DBAPIError) -> tuple[type[FraudError], Code]:
    if is_locked(error):
        return LockedDatabaseError, Code.DATABASE_LOCKED
    if _is_full(error):
        return FullDatabaseError, Code.DATABASE_FULL
    if passes(error):
        return PassingDatabaseError, Code.DATABASE_SILENT
    return FraudError, Code.DATABASE_REFUSED


def _is_full(error: DBAPIError) -> bool:
    original = error.orig
    if isinstance(original, sqlite3.Error):
        code: int = getattr(original, "sqlite_errorcode", 0)
        return code & 0xFF == sqlite3.SQLITE_FULL or code in _DISK_TAKES_NO_MORE
    return getattr(original, "sqlstate", None) in _DISK_STATES


def passes(error: DBAPIError) -> bool:
    """Return whether an error is transient."""
    original = error.orig
    if isinstance(original, sqlite3.Error):
        # The lower byte is the code, the others are details.
        code: int | None = getattr(original, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in _PASSING_SQLITE
    state = getattr(original, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_PASSING_STATES)
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    message = str(original)
    return error.connection_invalidated or not any(text in message for text in _REFUSED_FOR_GOOD)


def is_locked(error: DBAPIError) -> bool:
    """Return whether another process holds a lock of an SQLite file."""
    return isinstance(error.orig, sqlite3.Error) and str(error.orig) == "database is locked"


def _message(error: DBAPIError) -> str:
    if is_locked(error):
        return "locked by another process; run again when that has finished, or stop it"
    # Drop PostgreSQL's detail, which contains the row's values.
    primary = getattr(getattr(error.orig, "diag", None), "message_primary", None)
    text = " ".join((primary or str(error.orig)).split())
    if "unable to open database file" in text:
        return f"{text}; check that its directory exists and is writable, {_FILES_LEFT}"
    if not _is_full(error):
        return text
    if isinstance(error.orig, sqlite3.Error) and "full" not in text:
        return f"{text}: its disk takes no more; free some space, or look at quotas, and run again"
    return f"{text}; free some space and run again"

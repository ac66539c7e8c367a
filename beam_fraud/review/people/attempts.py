"""Failed log-ins, and how many there may be."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, func, insert, select

from beam_fraud.storage.database.people_tables import LOGIN_ATTEMPTS

#: Failures that are allowed in this time: of one name, and from one address.
WINDOW, OF_NAME, OF_ADDRESS = timedelta(minutes=15), 8, 40


def refused_for(connection: Connection, name: str, address: str) -> timedelta | None:
    """Return how long no password of a name, or from an address, is looked at; None if it is.

    Args:
      connection: in a read transaction.
      name: who wants to log in.
      address: the client's.
    """
    waits = [
        wait
        for column, value, most in (
            (LOGIN_ATTEMPTS.c.name_key, _key(name), OF_NAME),
            (LOGIN_ATTEMPTS.c.address, address, OF_ADDRESS),
        )
        if (wait := _wait(connection, column == value, most)) is not None
    ]
    return max(waits, default=None)


def begin_attempt(connection: Connection, name: str, address: str) -> str:
    """Record an attempt before its password is looked at, and return its id.

    So that attempts at one moment count, too.

    Args:
      connection: in a write transaction.
      name: who wants to log in.
      address: the client's.
    """
    now, attempt = datetime.now(UTC), secrets.token_hex(16)
    connection.execute(delete(LOGIN_ATTEMPTS).where(LOGIN_ATTEMPTS.c.tried_at < now - WINDOW))
    connection.execute(
        insert(LOGIN_ATTEMPTS).values(
            attempt_id=attempt, name_key=_key(name), address=address, tried_at=now
        )
    )
    return attempt


def forgive(connection: Connection, name: str, attempt: str | None = None) -> None:
    """Forget the failures of a name, after its right password or a reset.

    Args:
      connection: in a write transaction.
      name: the user's.
      attempt: the attempt that succeeded, whatever its name; None for none.
    """
    connection.execute(
        delete(LOGIN_ATTEMPTS).where(
            (LOGIN_ATTEMPTS.c.name_key == _key(name)) | (LOGIN_ATTEMPTS.c.attempt_id == attempt)
        )
    )


def _key(name: str) -> str:
    """Return a name as it is counted: anybody may send a long one."""
    return name.casefold()[:64]


def _wait(connection: Connection, of: object, most: int) -> timedelta | None:
    now = datetime.now(UTC)
    recent = (
        select(func.count(), func.min(LOGIN_ATTEMPTS.c.tried_at))
        .where(of)  # type: ignore[arg-type]
        .where(LOGIN_ATTEMPTS.c.tried_at > now - WINDOW)
    )
    count, oldest = connection.execute(recent).one()
    return None if count < most else max(oldest + WINDOW - now, timedelta(seconds=1))

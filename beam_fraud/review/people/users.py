"""Users in the database: their names, roles and passwords."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.engine import Row

from beam_fraud.errors import Code, FraudError
from beam_fraud.review.people.passwords import check_password, hashed, matches, outdated
from beam_fraud.review.people.roles import Role
from beam_fraud.storage.database.people_tables import SESSIONS, USERS
from beam_fraud.wording import did_you_mean, printable

#: Pattern of a name, which appears in labels and logs.
_NAME = re.compile(r"[A-Za-z0-9][\w.@+-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class User:
    """A person who may log in."""

    name: str
    role: Role
    created_at: datetime
    #: Time since which the person may not log in, or None.
    disabled_at: datetime | None
    #: Time of the last log-in, or None.
    seen_at: datetime | None
    #: Whether the person logs in with a password, not only with another provider.
    by_password: bool


def add_user(connection: Connection, name: str, role: Role, password: str | None) -> None:
    """Add a user.

    Args:
      connection: in a write transaction.
      name: 1 to 64 letters, digits and `. _ @ + -`; upper and lower case are one name.
      role: the role.
      password: the password; None for a person who logs in with a provider alone.

    Raises:
      FraudError: the name is taken or invalid, or the password unsuited.
    """
    if not is_name(name):
        raise FraudError(
            f"user {printable(name)!r}: a name has 1 to 64 letters, digits and . _ @ + -",
            Code.USER_INVALID,
        )
    there = find_user(connection, name)
    if there is not None:
        raise FraudError(
            f"user {name}: there is one of this name; `users reset` changes it", Code.USER_EXISTS
        )
    if password is not None:
        check_password(password, name)
    connection.execute(
        insert(USERS).values(
            name=name,
            name_key=name.casefold(),
            role=role.word,
            password_hash=None if password is None else hashed(password),
            created_at=datetime.now(UTC),
        )
    )


def is_name(text: str) -> bool:
    """Return whether a text can be the name of a user."""
    return _NAME.fullmatch(text) is not None


def disable_user(connection: Connection, name: str) -> None:
    """Refuse a user's log-ins from now on, and end the sessions.

    Args:
      connection: in a write transaction.
      name: the user's.

    Raises:
      FraudError: there is no such user, or it is the last administrator.
    """
    user = known_user(connection, name)
    _keep_an_admin(connection, user, None)
    connection.execute(
        update(USERS)
        .where(USERS.c.name == user.name, USERS.c.disabled_at.is_(None))
        .values(disabled_at=datetime.now(UTC))
    )
    end_sessions(connection, user.name)


def reset_user(
    connection: Connection, name: str, *, role: Role | None = None, password: str | None = None
) -> None:
    """Change a user's role or password, let the user log in again, and end the sessions.

    Args:
      connection: in a write transaction.
      name: the user's.
      role: the new role; None to keep it.
      password: the new password; None to keep it.

    Raises:
      FraudError: there is no such user, the password is unsuited, or the last administrator would
        lose the role.
    """
    user = known_user(connection, name)
    _keep_an_admin(connection, user, role or user.role)
    values: dict[str, object] = {"disabled_at": None}
    if role is not None:
        values["role"] = role.word
    if password is not None:
        check_password(password, user.name)
        values["password_hash"] = hashed(password)
    connection.execute(update(USERS).where(USERS.c.name == user.name).values(values))
    end_sessions(connection, user.name)


def end_sessions(connection: Connection, name: str) -> None:
    """End all sessions of a user."""
    connection.execute(delete(SESSIONS).where(SESSIONS.c.user_name == name))


def find_user(connection: Connection, name: str) -> User | None:
    """Return the user of a name, in upper or lower case; None if there is none."""
    row = connection.execute(select(USERS).where(USERS.c.name_key == name.casefold())).one_or_none()
    return None if row is None else user_of(row)


def known_user(connection: Connection, name: str) -> User:
    """Return the user of a name.

    Raises:
      FraudError: there is none.
    """
    user = find_user(connection, name)
    if user is None:
        names = [str(one) for one in connection.scalars(select(USERS.c.name).limit(1000))]
        hint = did_you_mean(name, names, "`users add` makes one")
        raise FraudError(f"user {printable(name)}: there is none; {hint}", Code.USER_UNKNOWN)
    return user


def list_users(connection: Connection) -> list[User]:
    """Return all users by name."""
    return [user_of(row) for row in connection.execute(select(USERS).order_by(USERS.c.name_key))]


def names_of_users(connection: Connection) -> list[str]:
    """Return the names of the users who may log in."""
    return list(connection.scalars(_NAMES).all())


#: Each case that a lead opens asks for them: the statement is made once.
_NAMES = select(USERS.c.name).where(USERS.c.disabled_at.is_(None)).order_by(USERS.c.name_key)


def count_users(connection: Connection) -> int:
    """Return the number of users who may log in."""
    query = select(func.count()).select_from(USERS).where(USERS.c.disabled_at.is_(None))
    return int(connection.scalar(query) or 0)


def user_by_password(connection: Connection, name: str, password: str) -> User | None:
    """Return the user who may log in with a password; None for a wrong one, or none.

    The time taken does not tell whether there is such a user.

    Args:
      connection: in a read transaction.
      name: the user's.
      password: the password.
    """
    row = connection.execute(select(USERS).where(USERS.c.name_key == name.casefold())).one_or_none()
    right = matches(password, None if row is None else row.password_hash)
    if row is None or not right or row.disabled_at is not None:
        return None
    return user_of(row)


def note_login(connection: Connection, user: User, password: str | None = None) -> None:
    """Record a log-in; renew a hash that was made with weaker settings.

    Args:
      connection: in a write transaction.
      user: who logged in.
      password: the right password, or None.
    """
    values: dict[str, object] = {"seen_at": datetime.now(UTC)}
    if password is not None:
        hash_ = connection.scalar(select(USERS.c.password_hash).where(USERS.c.name == user.name))
        if hash_ is not None and outdated(hash_):
            values["password_hash"] = hashed(password)
    connection.execute(update(USERS).where(USERS.c.name == user.name).values(values))


def user_of(row: Row[tuple[object, ...]]) -> User:
    """Return the user of a row of `users`."""
    return User(
        name=row.name,
        role=Role.parse(row.role),
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        seen_at=row.seen_at,
        by_password=row.password_hash is not None,
    )


def _keep_an_admin(connection: Connection, user: User, role: Role | None) -> None:
    """Refuse what would leave no administrator.

    Args:
      connection: in a write transaction.
      user: who changes.
      role: the role afterwards; None for a user who cannot log in.
    """
    if user.role is not Role.ADMIN or user.disabled_at is not None or role is Role.ADMIN:
        return
    others = (
        select(func.count())
        .select_from(USERS)
        .where(
            USERS.c.role == Role.ADMIN.word,
            USERS.c.disabled_at.is_(None),
            USERS.c.name != user.name,
        )
    )
    if not connection.scalar(others):
        raise FraudError(
            f"user {user.name}: is the last administrator; add another one first",
            Code.USER_INVALID,
        )

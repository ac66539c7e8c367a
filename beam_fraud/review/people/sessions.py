"""Sessions of logged-in people, and the tokens that bind forms to them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, exists, insert, select, update

from beam_fraud.review.people.users import User, user_of
from beam_fraud.storage.database.people_tables import SESSIONS, USERS
from beam_fraud.storage.database.review_tables import SAVED_VIEWS

#: A session ends after this time, and after this time without a request.
LONGEST, IDLE = timedelta(hours=12), timedelta(hours=2)
#: A request renews the time of the last one after this time: not each of them writes.
_RENEWED = timedelta(minutes=1)
_OF_TOKEN = SESSIONS.c.token_hash == bindparam("digest")
#: Every request asks for its session: the statement is made once. With a join, PostgreSQL, which
#: has no statistics of small tables, would read all sessions for each user.
_LIVING = select(
    USERS,
    select(SESSIONS.c.seen_at).where(_OF_TOKEN).scalar_subquery().label("requested_at"),
    exists().where(SAVED_VIEWS.c.owner.in_(("", USERS.c.name))).label("has_views"),
).where(
    USERS.c.name
    == select(SESSIONS.c.user_name)
    .where(
        _OF_TOKEN,
        SESSIONS.c.begun_at > bindparam("begun_after"),
        SESSIONS.c.seen_at > bindparam("seen_after"),
    )
    .scalar_subquery(),
    USERS.c.disabled_at.is_(None),
)


@dataclass(frozen=True)
class Session:
    """A logged-in person's session."""

    user: User
    #: SHA-256 of its token, as stored.
    digest: str
    #: Time of the last request, as stored.
    seen_at: datetime
    #: Whether the person can use a saved view.
    has_views: bool

    @property
    def wants_renewal(self) -> bool:
        """Return whether the stored time of the last request is too old."""
        return datetime.now(UTC) - self.seen_at > _RENEWED


def begin_session(connection: Connection, user: User) -> str:
    """Begin a session, and forget all that have ended.

    Args:
      connection: in a write transaction.
      user: who logs in.

    Returns:
      The token for the browser; the database has its hash alone.
    """
    token, now = secrets.token_urlsafe(32), datetime.now(UTC)
    connection.execute(
        delete(SESSIONS).where(
            (SESSIONS.c.begun_at < now - LONGEST) | (SESSIONS.c.seen_at < now - IDLE)
        )
    )
    connection.execute(
        insert(SESSIONS).values(
            token_hash=digest_of(token), user_name=user.name, begun_at=now, seen_at=now
        )
    )
    return token


def find_session(connection: Connection, token: str) -> Session | None:
    """Return the session of a token; None if it has ended, or its user may not log in."""
    now, digest = datetime.now(UTC), digest_of(token)
    values = {"digest": digest, "begun_after": now - LONGEST, "seen_after": now - IDLE}
    row = connection.execute(_LIVING, values).one_or_none()
    if row is None:
        return None
    return Session(user_of(row), digest, row.requested_at, row.has_views)


def renew_session(connection: Connection, session: Session) -> None:
    """Record the time of a request."""
    connection.execute(
        update(SESSIONS)
        .where(SESSIONS.c.token_hash == session.digest)
        .values(seen_at=datetime.now(UTC))
    )


def end_session(connection: Connection, session: Session) -> None:
    """End a session."""
    connection.execute(delete(SESSIONS).where(SESSIONS.c.token_hash == session.digest))


def digest_of(token: str) -> str:
    """Return the stored form of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def form_token(token: str) -> str:
    """Return the token of the forms of a session: only who has its cookie can compute it."""
    key = token.encode("utf-8", "surrogatepass")
    return hmac.new(key, b"form", hashlib.sha256).hexdigest()


def is_form_token(presented: str, token: str) -> bool:
    """Return whether a form was made for the session."""
    return hmac.compare_digest(
        presented.encode("utf-8", "surrogatepass"), form_token(token).encode()
    )

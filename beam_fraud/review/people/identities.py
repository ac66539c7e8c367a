"""People by what a provider calls them: who is who, and with which role."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, insert, select, update

from beam_fraud.errors import Code, FraudError
from beam_fraud.review import audit_log
from beam_fraud.review.people.openid_settings import OpenIdSettings, claim_of
from beam_fraud.review.people.roles import Role
from beam_fraud.review.people.users import (
    User,
    add_user,
    find_user,
    is_name,
    known_user,
    note_login,
)
from beam_fraud.storage.database.people_tables import IDENTITIES, OPENID_NONCES, USERS
from beam_fraud.wording import printable

if TYPE_CHECKING:
    from beam_fraud.review.people.openid import Identity


def log_in(
    connection: Connection, settings: OpenIdSettings, identity: Identity
) -> tuple[User, list[audit_log.Deed]]:
    """Return the user that somebody is, with the role that the provider gives.

    A person is found by issuer and subject alone. Who comes for the first time becomes a user.

    Args:
      connection: in a write transaction.
      settings: of the provider.
      identity: who logged in there.

    Returns:
      The user, and what the log has to say.

    Raises:
      FraudError: the log-in was used before; the person has no role here, is disabled, or has a
        name that cannot be used.
    """
    _use_up(connection, identity)
    role = settings.role_of(identity.claims)
    if role is None:
        raise _refused(
            f"the provider gives you no role here; {settings.role_claim} has none of those that "
            "the settings name"
        )
    known = (IDENTITIES.c.issuer == settings.issuer) & (IDENTITIES.c.subject == identity.subject)
    name = connection.scalar(select(IDENTITIES.c.user_name).where(known))
    deeds = [audit_log.Deed("logged_in", detail={"by": "openid"})]
    changed = {"role": role.word, "by": "openid"}
    if name is None:
        name, new = _linked(connection, settings, identity, role)
        action = "user_added" if new else "user_linked"
        deeds.insert(0, audit_log.Deed(action, detail={"user": name, **changed}))
    user = known_user(connection, name)
    if user.disabled_at is not None:
        raise _refused(f"the user {name} is disabled")
    if user.role is not role:
        connection.execute(update(USERS).where(USERS.c.name == name).values(role=role.word))
        deeds.insert(0, audit_log.Deed("user_reset", detail={"user": name, **changed}))
    note_login(connection, user)
    return replace(user, role=role), deeds


def _use_up(connection: Connection, identity: Identity) -> None:
    """Refuse the token of a log-in that was used before."""
    now, own = datetime.now(UTC), OPENID_NONCES.c.nonce_hash == identity.nonce_hash
    connection.execute(delete(OPENID_NONCES).where(OPENID_NONCES.c.expires_at < now))
    if connection.scalar(select(OPENID_NONCES.c.nonce_hash).where(own)) is not None:
        raise _refused("it was used before; log in again")
    values = {"nonce_hash": identity.nonce_hash, "expires_at": identity.expires}
    connection.execute(insert(OPENID_NONCES).values(values))


def _linked(
    connection: Connection, settings: OpenIdSettings, identity: Identity, role: Role
) -> tuple[str, bool]:
    """Return the name of the user that somebody becomes, and whether the user is new."""
    given = claim_of(identity.claims, settings.name_claim)
    name = given if isinstance(given, str) else ""
    if not is_name(name):
        raise _refused(
            f"{settings.name_claim} {printable(name)!r} is no name here: one has 1 to 64 letters, "
            "digits and . _ @ + -"
        )
    user = find_user(connection, name)
    if user is None:
        add_user(connection, name, role, None)
    else:
        name = user.name
        theirs = (IDENTITIES.c.issuer == settings.issuer) & (IDENTITIES.c.user_name == name)
        taken = connection.scalar(select(IDENTITIES.c.subject).where(theirs)) is not None
        if taken or not settings.link_by_name:
            raise _refused(f"there is a user {name} already, who is somebody else")
    values = {
        "issuer": settings.issuer,
        "subject": identity.subject,
        "user_name": name,
        "linked_at": datetime.now(UTC),
    }
    connection.execute(insert(IDENTITIES).values(values))
    return name, user is None


def _refused(why: str) -> FraudError:
    return FraudError(f"You cannot log in: {why}.", Code.LOGIN_REFUSED)

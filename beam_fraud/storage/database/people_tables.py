"""The tables of people who use the review: users, identities, sessions and log-ins."""

from __future__ import annotations

from sqlalchemy import Column, Index, Table, Text

from beam_fraud.storage.database.tables import METADATA, UtcDateTime

#: One row per person.
USERS = Table(
    "users",
    METADATA,
    Column("name", Text, primary_key=True),
    # The name in lower case: two people are not told apart by case.
    Column("name_key", Text, nullable=False, unique=True),
    # `read-only`, `analyst`, `lead` or `admin`.
    Column("role", Text, nullable=False),
    # Argon2id, with its salt and settings; null for who logs in with a provider alone.
    Column("password_hash", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("disabled_at", UtcDateTime),
    # Time of the last log-in.
    Column("seen_at", UtcDateTime),
)

#: One row per logged-in browser.
SESSIONS = Table(
    "sessions",
    METADATA,
    # SHA-256 of the browser's token.
    Column("token_hash", Text, primary_key=True),
    Column("user_name", Text, nullable=False),
    Column("begun_at", UtcDateTime, nullable=False),
    # Time of the last request, to a minute.
    Column("seen_at", UtcDateTime, nullable=False),
    Index("sessions_user", "user_name"),
)

#: One row per person whom a provider of OpenID Connect has logged in.
IDENTITIES = Table(
    "identities",
    METADATA,
    Column("issuer", Text, primary_key=True),
    # The provider's name of the person, which never changes.
    Column("subject", Text, primary_key=True),
    Column("user_name", Text, nullable=False),
    Column("linked_at", UtcDateTime, nullable=False),
    Index("identities_user", "issuer", "user_name", unique=True),
)

#: One row per log-in by a provider in the last minutes: none is used twice.
OPENID_NONCES = Table(
    "openid_nonces",
    METADATA,
    # SHA-256.
    Column("nonce_hash", Text, primary_key=True),
    Column("expires_at", UtcDateTime, nullable=False),
)

#: One row per failed log-in of the last minutes.
LOGIN_ATTEMPTS = Table(
    "login_attempts",
    METADATA,
    Column("attempt_id", Text, primary_key=True),
    Column("name_key", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("tried_at", UtcDateTime, nullable=False),
    Index("login_attempts_name", "name_key", "tried_at"),
    Index("login_attempts_address", "address", "tried_at"),
)

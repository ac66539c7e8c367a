"""Passwords: their hashes by Argon2id, and what a new one must have."""

from __future__ import annotations

import threading
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from beam_fraud.errors import Code, FraudError

#: Limits of a password's length in characters. Argon2 would hash the longest one slowly enough to
#: keep a server busy.
SHORTEST, LONGEST = 12, 256
#: Passwords that are long enough and guessed first all the same.
_COMMON = frozenset({"password1234", "123456789012", "qwertyuiopas", "administrator"})
#: Argon2id as RFC 9106 recommends it where memory is scarce: 64 MiB, three passes.
_HASHER = PasswordHasher()
#: Hashes computed at a time, each with its 64 MiB.
_AT_A_TIME = threading.BoundedSemaphore(2)


def check_password(password: str, name: str) -> None:
    """Check a new password.

    Args:
      password: the password.
      name: the user's.

    Raises:
      FraudError: it is too short, too long, or easily guessed.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise FraudError(
            f"password of {name}: has {len(password)} characters; give {SHORTEST} to {LONGEST}",
            Code.PASSWORD_UNSUITED,
        )
    folded = password.casefold()
    if len(set(folded)) < 4 or folded in _COMMON or name.casefold() in folded:
        raise FraudError(
            f"password of {name}: is easily guessed; give another one", Code.PASSWORD_UNSUITED
        )


def hashed(password: str) -> str:
    """Return the Argon2id hash of a password, with its salt and settings."""
    with _AT_A_TIME:
        return _HASHER.hash(password)


def matches(password: str, hash_: str | None) -> bool:
    """Return whether a hash is that of the password.

    Without a hash, the answer takes as long and is no: the time does not tell who has an account.
    """
    if len(password) > LONGEST:
        password, hash_ = "", None
    with _AT_A_TIME:
        try:
            found = _HASHER.verify(_nobody() if hash_ is None else hash_, password)
        except (VerificationError, InvalidHashError):
            return False
    return found and hash_ is not None


def outdated(hash_: str) -> bool:
    """Return whether a hash was made with weaker settings than today's."""
    return _HASHER.check_needs_rehash(hash_)


@cache
def _nobody() -> str:
    return _HASHER.hash("nobody has this password")

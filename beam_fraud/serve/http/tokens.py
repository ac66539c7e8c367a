"""Bearer tokens: several, with names and expiry, from a file or a variable."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.text_file import read_text_file
from beam_fraud.wording import first_line, reason_of

#: The variables that hold tokens, or name their file.
TOKENS_VARIABLE = "BEAM_FRAUD_TOKENS"
FILE_VARIABLE = "BEAM_FRAUD_TOKENS_FILE"
#: Minimum length of a token in characters: who guesses a shorter one is let in.
_SHORTEST = 16
_MAKE_ONE = "make one: openssl rand -hex 32"
_DIGEST = re.compile(r"[0-9a-f]{64}")
#: Characters of a name, which appears in the access log.
_NAME = re.compile(r"[\w.@-]{1,64}", re.ASCII)
#: Characters of a token in the header `Authorization` (RFC 6750).
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_LOG = logging.getLogger(__name__)


class _Entry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: str
    token: str | None = None
    sha256: str | None = None
    expires: datetime | None = None
    routes: frozenset[str] | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    token: tuple[_Entry, ...]


@dataclass(frozen=True)
class Token:
    """A token that is accepted."""

    #: Who uses it, for the access log.
    name: str
    #: SHA-256 of the token.
    digest: bytes
    #: Time of its end, seconds of the epoch; None for never.
    expires: float | None = None
    #: The routes it opens; None for all.
    routes: frozenset[str] | None = None


@dataclass(frozen=True)
class TokenSource:
    """Where tokens come from: a file, the text of a variable, or both."""

    #: A TOML file with a table `[[token]]` for each.
    file: Path | None = None
    #: `NAME=TOKEN` or `NAME=sha256:DIGEST`, separated by white space.
    text: str | None = None

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> TokenSource:
        """Return what the two variables say."""
        file = environment.get(FILE_VARIABLE)
        return cls(Path(file) if file else None, environment.get(TOKENS_VARIABLE) or None)

    @property
    def given(self) -> bool:
        """Return whether there are tokens at all."""
        return self.file is not None or self.text is not None

    def read(self) -> tuple[Token, ...]:
        """Return the tokens.

        Raises:
          FraudError: the file cannot be read or shows tokens to other users; an entry is invalid,
            or a name is used twice.
        """
        tokens = [*_of_text(self.text)] if self.text is not None else []
        if self.file is not None:
            tokens += _of_file(self.file)
        names = [token.name for token in tokens]
        for name in names:
            if names.count(name) > 1:
                raise _invalid(str(self.file or TOKENS_VARIABLE), f"the name {name!r} comes twice")
        return tuple(tokens)


class Tokens:
    """Accepts bearer tokens, and follows changes of their file."""

    def __init__(self, source: TokenSource) -> None:
        """Read the tokens.

        Args:
          source: where they come from.

        Raises:
          FraudError: as `TokenSource.read`.
        """
        self._source = source
        self._seen = self._stamp()
        self._tokens = source.read()

    def of(self, presented: bytes) -> Token | None:
        """Return the token that a client presents, expired or not; None if it is none.

        The time taken does not depend on where tokens differ, or on which of them matches.
        """
        digest = hashlib.sha256(presented).digest()
        match = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                match = token
        return match

    def reload(self) -> None:
        """Read the file again if it has changed; keep the tokens if it is invalid now."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._tokens = self._source.read()
        except FraudError as error:
            _LOG.error("%s; the tokens of before stay valid [%s]", error, error.code)
        else:
            _LOG.info("tokens were read again: %d", len(self._tokens))

    def _stamp(self) -> tuple[int, ...]:
        """Return what changes with the file; links, as of Kubernetes' secrets, are followed."""
        if self._source.file is None:
            return ()
        try:
            status = self._source.file.stat()
        except OSError as error:
            return (error.errno or 0,)
        return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode, status.st_uid)


def _of_file(file: Path) -> list[Token]:
    try:
        mode = file.stat().st_mode
        text = read_text_file(file)
    except (OSError, UnicodeError) as error:
        raise FraudError(
            f"{FILE_VARIABLE} {file}: {reason_of(error)}", Code.SECRET_UNREADABLE
        ) from None
    try:
        # `read_toml` shows wrong values.
        entries = msgspec.convert(tomllib.loads(text), _File).token
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise _invalid(str(file), f"not tables [[token]] of TOML: {first_line(error)}") from None
    plain = any(entry.token is not None for entry in entries)
    if plain and mode & (stat.S_IRGRP | stat.S_IROTH):
        raise FraudError(
            f"{FILE_VARIABLE} {file}: other users can read the tokens in it; "
            f"chmod 600 {file}, or write sha256 = for token =",
            Code.SECRET_EXPOSED,
        )
    return [_token(entry, str(file)) for entry in entries]


def _of_text(text: str) -> list[Token]:
    tokens = list[Token]()
    for number, entry in enumerate(text.split(), start=1):
        name, mark, value = entry.partition("=")
        if not mark:
            raise _invalid(TOKENS_VARIABLE, f"entry {number} is not NAME=TOKEN")
        digest = value.removeprefix("sha256:")
        plain = digest == value
        token = _Entry(name=name, token=value if plain else None, sha256=None if plain else digest)
        tokens.append(_token(token, TOKENS_VARIABLE))
    if not tokens:
        raise _invalid(TOKENS_VARIABLE, "it holds no token")
    return tokens


def _token(entry: _Entry, where: str) -> Token:
    if not _NAME.fullmatch(entry.name):
        raise _invalid(where, "a name has 1 to 64 letters, digits and . _ @ -")
    if (entry.token is None) == (entry.sha256 is None):
        raise _invalid(where, f"token {entry.name!r} needs one of token = and sha256 =")
    if entry.sha256 is not None:
        if not _DIGEST.fullmatch(entry.sha256.lower()):
            raise _invalid(where, f"token {entry.name!r}: sha256 has 64 hexadecimal digits")
        digest = bytes.fromhex(entry.sha256)
    else:
        plain = entry.token or ""
        if len(plain) < _SHORTEST or not _TOKEN.fullmatch(plain):
            raise _invalid(
                where,
                f"token {entry.name!r} has fewer than {_SHORTEST} characters, or others than "
                f"letters, digits and - . _ ~ + /; {_MAKE_ONE}",
            )
        digest = hashlib.sha256(plain.encode()).digest()
    for route in entry.routes or ():
        if not route.startswith("/"):
            raise _invalid(where, f"token {entry.name!r}: a route is a path, as in /metrics")
    expires = entry.expires
    if expires is not None and expires.tzinfo is None:
        expires = expires.replace(tzinfo=UTC)
    end = None if expires is None else expires.timestamp()
    return Token(entry.name, digest, end, entry.routes)


def _invalid(where: str, what: str) -> FraudError:
    return FraudError(f"{where}: {what}", Code.TOKENS_INVALID)

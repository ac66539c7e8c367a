"""URLs of databases: their parts, passwords and display."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.schema.text_file import read_secret

#: Variable of the password if the URL names none.
PASSWORD_VARIABLE = "BEAM_FRAUD_DATABASE_PASSWORD"
#: Our own options, unknown to libpq.
_OURS = ("password_env", "password_file")
#: Options of a URL that name files, which every process reads.
FILE_OPTIONS = ("password_file", "sslrootcert", "sslcert", "sslkey", "passfile")
#: Options of libpq that are secrets.
_SECRET = ("password", "sslpassword")
_BY_VARIABLE = "env:"


class DatabaseUrl(str):
    """A database URL in SQLAlchemy's form, or `env:NAME`; it may hold a password.

    Its representation masks the password, also inside other objects.

    Example:
      >>> DatabaseUrl("postgresql://me:hunter2@host/db")
      'postgresql://me:***@host/db'
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(masked(self))


def sqlite_url(file: Path) -> str:
    """Return the database URL of an SQLite file, given by its absolute path."""
    return URL.create("sqlite", database=str(file)).render_as_string()


def database_file(url: str) -> Path | None:
    """Return the file of the database, None for a server."""
    parsed = parse(url)
    is_file = parsed.get_backend_name() == "sqlite"
    return Path(parsed.database or "") if is_file else None


def masked(url: str) -> str:
    """Return a database URL without secrets; equal for all forms of the password."""
    try:
        parsed = parse(url)
    except FraudError:
        # The variable is not set here; of an invalid URL, show nothing.
        return url if url.startswith(_BY_VARIABLE) else url.partition(":")[0]
    hidden = {name: "***" for name in _SECRET if name in parsed.query}
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True)


def parse(url: str, option: str = "database") -> URL:
    """Parse a URL; resolve `env:NAME`.

    Args:
      url: the URL.
      option: what names it in messages.

    Raises:
      FraudError: the variable is not set.
      UsageError: it is invalid; the message does not show it.
    """
    if url.startswith(_BY_VARIABLE):
        name = url.removeprefix(_BY_VARIABLE)
        if not os.environ.get(name):
            raise FraudError(f"{option} {url}: the variable {name} is not set", Code.VARIABLE_UNSET)
        label, url = f"{option} {url}", os.environ[name]
    else:
        label = f"{option} {url.partition(':')[0]}"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UsageError(
            f"{label}: cannot be read; write postgresql://USER@HOST:PORT/DATABASE, and %40 for @, "
            "%3A for :, %2F for / in a password",
            Code.SINK_URL,
        ) from None
    if "@" in (parsed.host or ""):
        raise UsageError(f"{label}: write %40 for @ in a password", Code.SINK_URL)
    return parsed


def driver_url(url: str) -> URL:
    """Return the URL for SQLAlchemy: with the driver, without password and our options."""
    parsed = parse(url)
    if parsed.get_backend_name() != "postgresql":
        return parsed
    bare = parsed.difference_update_query((*_OURS, *_SECRET))
    # Not `set`, for which None means no change.
    return bare._replace(drivername="postgresql+psycopg", password=None)


def connect_arguments(url: str) -> dict[str, Any]:
    """Return arguments of libpq beside the URL: resolved secrets and time limits.

    Raises:
      FraudError: a password's file cannot be read, or its variable is not set.
    """
    parsed = parse(url)
    options = {name: str(value) for name, value in parsed.query.items()}
    password = options.get("password") or parsed.password
    if not password:
        password = read_secret(f"database {masked(url)}", "password", options, PASSWORD_VARIABLE)
    # Detect a machine that is gone after a minute.
    arguments: dict[str, Any] = {
        "application_name": "beam-fraud",
        "connect_timeout": "10",
        "keepalives_idle": "20",
        "keepalives_interval": "10",
        "keepalives_count": "4",
        "tcp_user_timeout": "60000",
    }
    arguments = {name: value for name, value in arguments.items() if name not in options}
    if password:
        arguments["password"] = password
    if "sslpassword" in options:
        arguments["sslpassword"] = options["sslpassword"]
    return arguments

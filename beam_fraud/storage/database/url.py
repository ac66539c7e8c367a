"""URLs of databases: what they mean, where their passwords come from, how they are shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.storage.secret import read_secret

#: Looked at for the password where the URL says nothing of it.
PASSWORD_VARIABLE = "BEAM_FRAUD_DATABASE_PASSWORD"
#: Options that are ours, not libpq's.
_OURS = ("password_env", "password_file")
#: Options of a URL that name files, which every process reads by itself.
FILE_OPTIONS = ("password_file", "sslrootcert", "sslcert", "sslkey", "passfile")
#: Options of libpq that are secrets.
_SECRET = ("password", "sslpassword")
_BY_VARIABLE = "env:"


class DatabaseUrl(str):
    """A database URL as SQLAlchemy reads it, or `env:NAME`; it may hold a password.

    It shows itself without that, and so does whatever has it in a field.

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
    """Return the file that holds the database, None if a server does."""
    parsed = parse(url)
    is_file = parsed.get_backend_name() == "sqlite"
    return Path(parsed.database or "") if is_file else None


def masked(url: str) -> str:
    """Return a database URL without its secrets; the same for all ways to give a password."""
    try:
        parsed = parse(url)
    except FraudError:
        # A variable that is not set here; of what cannot be read, nothing is repeated.
        return url if url.startswith(_BY_VARIABLE) else url.partition(":")[0]
    hidden = {name: "***" for name in _SECRET if name in parsed.query}
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True)


def parse(url: str) -> URL:
    """Return the parts of a URL, as the user gave them; that of a variable is looked up.

    Raises:
      FraudError: the variable is not set.
      UsageError: it cannot be read; what it holds is not repeated.
    """
    if url.startswith(_BY_VARIABLE):
        name = url.removeprefix(_BY_VARIABLE)
        if not os.environ.get(name):
            raise FraudError(f"--sink {url}: the variable {name} is not set", Code.VARIABLE_UNSET)
        said, url = f"--sink {url}", os.environ[name]
    else:
        said = f"--sink {url.partition(':')[0]}"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UsageError(
            f"{said}: cannot be read; write postgresql://USER@HOST:PORT/DATABASE, and %40 for @, "
            "%3A for :, %2F for / in a password",
            Code.SINK_URL,
        ) from None
    if "@" in (parsed.host or ""):
        raise UsageError(f"{said}: write %40 for @ in a password", Code.SINK_URL)
    return parsed


def driver_url(url: str) -> URL:
    """The URL for SQLAlchemy: with the driver's name, without the password and our options."""
    parsed = parse(url)
    if parsed.get_backend_name() != "postgresql":
        return parsed
    bare = parsed.difference_update_query((*_OURS, *_SECRET))
    # Not `set`, which takes None for no change.
    return bare._replace(drivername="postgresql+psycopg", password=None)


def connect_arguments(url: str) -> dict[str, Any]:
    """Return what libpq is told beside the URL: secrets, looked up now, and how long it may wait.

    Raises:
      FraudError: a password's file cannot be read, or its variable is not set.
    """
    parsed = parse(url)
    options = {name: str(value) for name, value in parsed.query.items()}
    password = options.get("password") or parsed.password
    if not password:
        password = read_secret(f"--sink {masked(url)}", "password", options, PASSWORD_VARIABLE)
    # A server whose machine is gone is noticed after a minute.
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

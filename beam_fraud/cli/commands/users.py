"""`beam-fraud users add`, `list`, `disable` and `reset`."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from sqlalchemy import Connection

from beam_fraud.cli.commands.database import database_of
from beam_fraud.cli.options import (
    UsersAddOptions,
    UsersDisableOptions,
    UsersListOptions,
    UsersResetOptions,
)
from beam_fraud.cli.options.review import PasswordOptions
from beam_fraud.cli.terminal.columns import table
from beam_fraud.errors import Code, FraudError, UsageError, need_extras
from beam_fraud.models.registry.registry import Author
from beam_fraud.review import audit_log
from beam_fraud.review.people.roles import Role
from beam_fraud.schema.text_file import read_secret_file
from beam_fraud.storage.database.retry import persistently
from beam_fraud.wording import printable

#: Variable of the password of a user.
PASSWORD_VARIABLE = "BEAM_FRAUD_USER_PASSWORD"


def run_add(options: UsersAddOptions) -> dict[str, object]:
    """Add a user.

    Raises:
      UsageError: an option is invalid.
      FraudError: the name is taken or invalid, the password is unsuited, or the database is not
        there or cannot be written.
    """
    need_extras(("argon2",), "users add")
    from beam_fraud.review.people.users import add_user

    role, url = Role.parse(options.role), database_of(options.database)
    password = _password(options, options.name)

    def work(connection: Connection) -> None:
        add_user(connection, options.name, role, password)
        _record(connection, "user_added", {"user": options.name, "role": role.word})

    return _written(url, work, options.name, role=role.word)


def run_list(options: UsersListOptions) -> dict[str, object]:
    """List the users by name.

    Returns:
      `users`: `user`, `role`, `created_at`, `disabled_at` and `seen_at`, the last log-in; times are
      null where there was none.

    Raises:
      FraudError: the database is not there or cannot be read.
    """
    need_extras(("argon2",), "users list")
    from beam_fraud.review.people.users import list_users
    from beam_fraud.storage.database.connection import transaction

    with transaction(database_of(options.database, writes=False)) as connection:
        users = list_users(connection)
    listed = [
        {
            "user": one.name,
            "role": one.role.word,
            "created_at": one.created_at,
            "disabled_at": one.disabled_at,
            "seen_at": one.seen_at,
        }
        for one in users
    ]
    return cast(dict[str, object], msgspec.to_builtins({"users": listed}))


def run_disable(options: UsersDisableOptions) -> dict[str, object]:
    """Disable a user.

    Raises:
      FraudError: there is no such user, or it is the last administrator.
    """
    need_extras(("argon2",), "users disable")
    from beam_fraud.review.people.users import disable_user

    def work(connection: Connection) -> None:
        disable_user(connection, options.name)
        _record(connection, "user_disabled", {"user": options.name})

    return _written(database_of(options.database), work, options.name, disabled=True)


def run_reset(options: UsersResetOptions) -> dict[str, object]:
    """Change the role of a user, or else the password.

    Raises:
      UsageError: an option is invalid.
      FraudError: there is no such user, or the password is unsuited.
    """
    need_extras(("argon2",), "users reset")
    from beam_fraud.review.people.attempts import forgive
    from beam_fraud.review.people.users import known_user, reset_user
    from beam_fraud.storage.database.connection import transaction

    url = database_of(options.database)
    with transaction(url) as connection:
        # Before a password is asked for.
        name = known_user(connection, options.name).name
    role = None if options.role is None else Role.parse(options.role)
    wanted = role is None or options.password_file is not None
    password = _password(options, name) if wanted else None

    def work(connection: Connection) -> None:
        reset_user(connection, name, role=role, password=password)
        forgive(connection, name)
        changed = {"user": name, "password": password is not None}
        _record(connection, "user_reset", {**changed, **({"role": role.word} if role else {})})

    return _written(url, work, name, **({"role": role.word} if role else {}))


def render_add(result: dict[str, object]) -> str:
    """Return what was done."""
    return f"added {result['user']}, role {result['role']}"


def render_list(result: dict[str, object]) -> str:
    """Return a line per user."""
    rows: list[tuple[str, ...]] = [("user", "role", "added", "last log-in", "disabled")]
    for one in cast(list[dict[str, Any]], result["users"]):
        times = (one["created_at"], one["seen_at"], one["disabled_at"])
        rows.append((one["user"], one["role"], *(_minute(time) for time in times)))
    return "\n".join(table(rows)) if len(rows) > 1 else "There are no users; `users add` adds one."


def _minute(time: str | None) -> str:
    return "-" if time is None else time[:16].replace("T", " ")


def render_disable(result: dict[str, object]) -> str:
    """Return what was done."""
    return f"disabled {result['user']}; the sessions have ended"


def render_reset(result: dict[str, object]) -> str:
    """Return what was done."""
    return f"reset {result['user']}; the sessions have ended"


def _written(
    url: str, work: Callable[[Connection], None], name: str, **more: object
) -> dict[str, object]:
    persistently(url, work)
    return {"user": name, **more}


def _record(connection: Connection, action: str, detail: dict[str, object]) -> None:
    who = Author.of(None, None).who
    audit_log.append(connection, who, action, datetime.now(UTC), detail=detail)


def _password(options: PasswordOptions, name: str) -> str:
    """Return the password of a file, the variable, or a prompt."""
    if options.password_file is not None:
        return read_secret_file(options.password_file, "--password-file")
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is not None:
        return password
    if not sys.stdin.isatty():
        raise UsageError(
            f"users: there is no terminal to ask for a password; give --password-file FILE or set "
            f"{PASSWORD_VARIABLE}",
            Code.OPTION_MISSING,
        )
    password = getpass.getpass(f"Password of {printable(name)}: ")
    if getpass.getpass("Once more: ") != password:
        raise FraudError(
            f"password of {printable(name)}: the two differ; run again", Code.PASSWORD_UNSUITED
        )
    return password

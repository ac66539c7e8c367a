"""The database of the commands about cases, labels and people."""

from __future__ import annotations

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.sinks.url import parse_sink
from beam_fraud.storage.database.connection import (
    check_database,
    masked,
    prepare_database,
    prepare_for_reading,
)
from beam_fraud.storage.database.url import database_file


def database_of(
    url: str, *, created: bool = False, option: str = "--database", writes: bool = True
) -> str:
    """Return the database that an option names, with its tables.

    Args:
      url: its URL.
      option: the option.
      created: whether a missing file of SQLite is created.
      writes: whether the command writes there; others can use a replica.

    Raises:
      UsageError: it is no database.
      FraudError: it is not there or cannot be reached, or its tables are not ours.
    """
    database = _url_of(url, option)
    file = database_file(database)
    if file is not None and not (created or file.is_file()):
        raise FraudError(
            f"{option} {masked(database)}: is not there; give the database that --sink of the "
            "runs names",
            Code.PLACE_EMPTY,
        )
    if writes:
        prepare_database(database)
    else:
        prepare_for_reading(database)
    return database


def new_database_of(url: str, *, option: str = "--database") -> str:
    """Return the database that an option names, which `prepare_database` may create.

    Nothing is created here, and nowhere the directory of a file.

    Raises:
      UsageError: it is no database.
      FraudError: its directory is not there, it cannot be reached, or its tables are not ours.
    """
    database = _url_of(url, option)
    file = database_file(database)
    if file is not None and not file.parent.is_dir():
        raise FraudError(
            f"{option} {masked(database)}: the directory {file.parent} is not there; make it, or "
            "correct the path",
            Code.PLACE_EMPTY,
        )
    check_database(database)
    return database


def _url_of(url: str, option: str) -> str:
    database = parse_sink(url, option, databases=True).database
    if database is None:
        raise UsageError(
            f"{option} {masked(url)}: is no database; give sqlite:///FILE or "
            "postgresql://USER@HOST/DATABASE",
            Code.SINK_UNSUITED,
        )
    return database

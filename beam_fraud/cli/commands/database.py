"""The database of the commands about cases, labels and people."""

from __future__ import annotations

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.sinks.url import parse_sink
from beam_fraud.storage.database.connection import masked, prepare_database, prepare_for_reading


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
    sink = parse_sink(url, option)
    database = sink.database
    if database is not None and not (created or sink.exists()):
        raise FraudError(f"{option} {sink.describe()}: is not there", Code.PLACE_EMPTY)
    if database is None:
        raise UsageError(
            f"{option} {masked(url)}: is no database; give sqlite:///FILE or "
            "postgresql://USER@HOST/DATABASE",
            Code.SINK_UNSUITED,
        )
    if writes:
        prepare_database(database)
    else:
        prepare_for_reading(database)
    return database

"""The database of the commands about cases, labels and people."""

from __future__ import annotations

from beam_fraud.errors import Code, UsageError
from beam_fraud.sinks.url import parse_sink
from beam_fraud.storage.database.connection import prepare_database


def review_database(url: str) -> str:
    """Return the database that `--database` names, with its tables created or migrated.

    Raises:
      UsageError: the URL names no database.
      FraudError: it cannot be reached or written.
    """
    sink = parse_sink(url)
    if sink.database is None:
        raise UsageError(
            f"--database {sink.describe()}: is no database; give sqlite:///FILE or "
            "postgresql://USER@HOST/DATABASE",
            Code.SINK_UNSUITED,
        )
    prepare_database(sink.database)
    return sink.database

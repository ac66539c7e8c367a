"""The outbox of a command over alerts."""

from __future__ import annotations

from pathlib import Path

from beam_fraud.alerts.outbox import Outbox
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.sinks.url import parse_sink
from beam_fraud.storage.database.connection import sqlite_url
from beam_fraud.storage.database.url import database_file
from beam_fraud.storage.urls import absolute


def outbox_of(sink: str | None, out: str | None) -> Outbox:
    """Return the outbox of a database, or of a run's directory.

    Args:
      sink: `--sink`, a database.
      out: `--out` of a `score` or `stream` without a database.

    Raises:
      UsageError: not exactly one is set, or the sink is no database.
      FraudError: it does not exist, or cannot be used.
    """
    if (sink is None) == (out is None):
        code = Code.OPTION_MISSING if sink is None else Code.OPTION_CONFLICT
        raise UsageError(
            "give --sink URL, the database with the alerts, or --out DIR, not both", code
        )
    if out is not None:
        file = absolute(Path(out)) / "outbox.db"
        outbox, fix = Outbox(sqlite_url(file)), "alerts of a run with a database are in its --sink"
    else:
        database = parse_sink(str(sink))
        if database.database is None:
            raise UsageError(
                f"--sink {database.describe()}: holds no alerts, give a database",
                Code.SINK_UNSUITED,
            )
        outbox, fix = Outbox(database.database), "give the one that the run was given"
    there = database_file(outbox.url)
    if there is not None and not there.is_file():
        raise FraudError(f"{there}: there is no such database; {fix}", Code.DATABASE_FILE)
    outbox.begin()
    return outbox

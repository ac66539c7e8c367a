"""Flagged rows that a run's database did not take."""

from __future__ import annotations

from pathlib import Path

from beam_fraud.errors import FraudError
from beam_fraud.outputs import UNDELIVERED
from beam_fraud.own_call import own_call
from beam_fraud.sinks.base import FlaggedSink
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.transforms.counters import ROWS_UNDELIVERED


def undelivered_rows(sink: FlaggedSink | None, counted: dict[str, int]) -> dict[str, object]:
    """What a summary says of them: nothing without a database."""
    if not isinstance(sink, DatabaseSink):
        return {}
    return {ROWS_UNDELIVERED: counted.get(ROWS_UNDELIVERED, 0)}


def refuse_undelivered(sink: FlaggedSink | None, counted: dict[str, int], out: Path | str) -> None:
    """Say in the end that rows wait, and how they come into the database.

    Raises:
      FraudError: some do.
    """
    rows = counted.get(ROWS_UNDELIVERED, 0)
    if rows and sink is not None:
        raise FraudError(
            f"{rows:,} flagged rows and their alerts are not in {sink.describe()} and wait in "
            f"{out}/{UNDELIVERED}; all else is in {out}: when it is back, "
            f"`{own_call()} dead-letters replay {out} --sink URL` writes them"
        )

"""Flagged rows that a run's database did not take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from beam_fraud.errors import FraudError
from beam_fraud.outputs import UNDELIVERED
from beam_fraud.sinks.base import FlaggedSink
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.transforms.counters import ROWS_UNDELIVERED


def keeping_undelivered(sink: FlaggedSink | None, out: Path, *, here: bool) -> FlaggedSink | None:
    """The sink; if it is a database, what it does not take waits under `--out`.

    Args:
      sink: as it was given.
      out: directory of the run's outputs.
      here: whether all workers are on this machine; elsewhere nobody would find the rows, so the
        runner has to try again.
    """
    if here and isinstance(sink, DatabaseSink):
        return replace(sink, spill=out / UNDELIVERED)
    return sink


def undelivered_rows(sink: FlaggedSink | None, counted: dict[str, int]) -> dict[str, object]:
    """What a summary says of them: nothing without a database."""
    if not isinstance(sink, DatabaseSink):
        return {}
    return {ROWS_UNDELIVERED: counted.get(ROWS_UNDELIVERED, 0)}


def refuse_undelivered(sink: FlaggedSink | None, counted: dict[str, int], out: Path) -> None:
    """Say in the end that rows wait, and how they come into the database.

    Raises:
      FraudError: some do.
    """
    rows = counted.get(ROWS_UNDELIVERED, 0)
    if rows and sink is not None:
        raise FraudError(
            f"{rows:,} flagged rows and their alerts are not in {sink.describe()} and wait in "
            f"{out / UNDELIVERED}; all else is in {out}: when it is back, "
            f"`beam-fraud dead-letters replay {out} --sink URL` writes them"
        )

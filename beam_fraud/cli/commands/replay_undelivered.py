"""`beam-fraud dead-letters replay OUT --sink URL`: write spilled rows to their database."""

from __future__ import annotations

from typing import Any

from beam_fraud.alerts.outbox import Outbox
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.monitoring.activity import doing
from beam_fraud.sinks.database import DatabaseSink, replay_undelivered
from beam_fraud.sinks.url import parse_sink
from beam_fraud.storage.batch_outputs import UNDELIVERED, local_directory
from beam_fraud.wording import own_call


def run(out: str, sink: str) -> dict[str, object]:
    """Write the spilled flagged rows under `out` to a database, and queue their alerts.

    Returns:
      `delivered` rows, `alerts_waiting` over all channels, and the `sink`.

    Raises:
      UsageError: the sink is no database.
      FraudError: there were never such rows, a file cannot be read, or the database fails.
    """
    place = parse_sink(sink)
    if place.database is None:
        raise UsageError(
            "--sink: undelivered rows go to a database; or give --model and --out",
            Code.SINK_UNSUITED,
        )
    directory = local_directory(out) / UNDELIVERED
    if not directory.is_dir():
        raise FraudError(f"{out}: no rows wait there for a database", Code.PLACE_EMPTY)
    with doing(f"writing rows to {place.describe()}"):
        rows = replay_undelivered(directory, DatabaseSink(place.database))
    waiting = 0
    if rows:
        waiting = sum(count.pending for count in Outbox(place.database).counts().values())
    return {"delivered": rows, "alerts_waiting": waiting, "sink": place.describe()}


def render(result: dict[str, Any]) -> str:
    """Return the result as text for a terminal."""
    text = f"{result['delivered']:,} rows written to {result['sink']}"
    if result["alerts_waiting"]:
        text += (
            f"\n{result['alerts_waiting']:,} alerts wait there: {own_call()} alerts resend, or the "
            "next run with the same --alert, sends them"
        )
    return text

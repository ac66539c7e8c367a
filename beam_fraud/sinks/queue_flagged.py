"""Alerts of flagged rows into an outbox that is not the rows' own database."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from beam_fraud.alert import AlertContext
from beam_fraud.sinks.flagged_columns import flagged_columns
from beam_fraud.sinks.persistence import persistently
from beam_fraud.sinks.queued_alerts import queue_alerts


def queue_flagged(
    url: str, batch: pa.RecordBatch, channels: Sequence[str], context: AlertContext | None = None
) -> None:
    """Queue an alert a row and channel, in one transaction; the same twice changes nothing.

    Args:
      url: of the outbox, a database that was prepared.
      batch: rows of the schema `stages.SCORED`.
      channels: names.
      context: what alerts tell beside their rows, if that is known.

    Raises:
      FraudError: the database refuses or cannot be reached.
    """
    flagged = flagged_columns(batch)
    persistently(url, lambda connection: queue_alerts(connection, flagged, channels, context))

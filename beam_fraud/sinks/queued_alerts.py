"""Alerts into the outbox's table, inside a transaction that may hold more."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from sqlalchemy import Connection

from beam_fraud.alert import AlertContext
from beam_fraud.sinks.flagged_columns import alert_columns
from beam_fraud.sinks.tables import ALERTS
from beam_fraud.sinks.upsert import upsert_columns

#: Which alerts may still change.
_UNDELIVERED = ALERTS.c.delivery_id.is_(None)


def queue_alerts(
    connection: Connection,
    flagged: dict[str, pa.Array],
    channels: Sequence[str],
    context: AlertContext | None = None,
) -> None:
    """Queue an alert a row and channel: one in a delivery stays, others take the newest scoring.

    Args:
      connection: in a transaction.
      flagged: `flagged_columns` of the rows.
      channels: names.
      context: what alerts tell beside their rows, if that is known.
    """
    if channels:
        columns = alert_columns(flagged, channels, context)
        upsert_columns(connection, ALERTS, columns, where=_UNDELIVERED)

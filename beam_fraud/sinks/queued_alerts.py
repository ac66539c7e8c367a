"""Alerts into the outbox's table, inside a transaction that may hold more."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from beam_fraud.alert import Alert
from beam_fraud.sinks.tables import ALERTS
from beam_fraud.sinks.upsert import upsert


def queue_alerts(connection: Connection, alerts: Sequence[Alert]) -> None:
    """Queue `alerts`: one in a delivery stays as it is, others take the newest scoring."""
    rows = [alert.row() for alert in alerts]
    upsert(connection, ALERTS, rows, where=ALERTS.c.delivery_id.is_(None))

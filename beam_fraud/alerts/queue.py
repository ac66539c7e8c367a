"""Queue alerts in the outbox's table, in a transaction that may hold more."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import pyarrow as pa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from beam_fraud.alerts.alert import AlertContext
from beam_fraud.sinks.flagged_columns import alert_columns, flagged_columns
from beam_fraud.storage.database.retry import persistently
from beam_fraud.storage.database.tables import ALERTS, DELIVERIES
from beam_fraud.storage.database.upsert import upsert_columns

#: States of alerts that may still change.
_UNDELIVERED = ALERTS.c.delivery_id.is_(None)


def queue_alerts(
    connection: Connection,
    flagged: dict[str, pa.Array],
    channels: Sequence[str],
    context: AlertContext | None = None,
) -> None:
    """Queue an alert per row and channel; rescoring replaces an alert that is in no delivery yet.

    Args:
      connection: in a transaction.
      flagged: `flagged_columns` of the rows.
      channels: names of channels.
      context: settings that alerts use beside their rows, or None.
    """
    if channels:
        columns = alert_columns(flagged, channels, context)
        upsert_columns(connection, ALERTS, columns, where=_UNDELIVERED)


def queue_flagged(
    url: str, batch: pa.RecordBatch, channels: Sequence[str], context: AlertContext | None = None
) -> None:
    """Queue an alert per row and channel in one transaction; idempotent.

    Args:
      url: of the outbox, a prepared database.
      batch: rows of the schema `stages.SCORED`.
      channels: names of channels.
      context: settings that alerts use beside their rows, or None.

    Raises:
      FraudError: the database fails or cannot be reached.
    """
    flagged = flagged_columns(batch)
    persistently(url, lambda connection: queue_alerts(connection, flagged, channels, context))


@dataclass(frozen=True)
class Notice:
    """A message that is not about a transaction, sent once: for example, a rule was muted."""

    #: Identity of the notice: notices with equal parts are one notice.
    about: tuple[str, ...]
    #: Text of the notice.
    text: str
    #: What the text says, for programs; JSON-compatible, or None.
    event: Mapping[str, object] | None = None

    def delivery_id(self, channel: str) -> str:
        """Return the id of the notice in a channel: 32 hex digits, stable."""
        key = "\0".join((channel, *self.about))
        return hashlib.sha256(key.encode()).hexdigest()[:32]


def queue_notices(
    connection: Connection, channels: Sequence[str], notices: Sequence[Notice]
) -> None:
    """Queue each notice once for every channel.

    Args:
      connection: in a transaction.
      channels: names of the channels.
      notices: the notices.
    """
    now = datetime.now(UTC)
    rows = [
        {
            "delivery_id": notice.delivery_id(channel),
            "channel": channel,
            "kind": "notice",
            "text": notice.text,
            "event": None if notice.event is None else msgspec.json.encode(notice.event).decode(),
            "created_at": now,
            "state": "waiting",
            "attempts": 0,
        }
        for notice in notices
        for channel in channels
    ]
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(DELIVERIES).on_conflict_do_nothing(), rows)

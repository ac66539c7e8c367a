"""Notices into the table of deliveries: what people are told beside alerts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from beam_fraud.sinks.tables import DELIVERIES


@dataclass(frozen=True)
class Notice:
    """Something that people are told once."""

    #: What it is of: the same parts, the same notice.
    about: tuple[str, ...]
    #: In plain words.
    text: str

    def delivery_id(self, channel: str) -> str:
        """What the notice is known by in a channel: 32 hexadecimal digits, always the same."""
        told = "\0".join((channel, *self.about))
        return hashlib.sha256(told.encode()).hexdigest()[:32]


def queue_notices(
    connection: Connection, channels: Sequence[str], notices: Sequence[Notice]
) -> None:
    """Queue a message of each notice for every channel, unless it was queued before.

    Args:
      connection: in a transaction.
      channels: names of the channels.
      notices: what they are told.
    """
    now = datetime.now(UTC)
    rows = [
        {
            "delivery_id": notice.delivery_id(channel),
            "channel": channel,
            "kind": "notice",
            "text": notice.text,
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

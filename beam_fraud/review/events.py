"""Send events of people's actions to other programs, and labels to a topic, by the outbox."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import msgspec
from sqlalchemy import Connection

from beam_fraud.storage.database.tables import DELIVERIES


@dataclass(frozen=True)
class Event:
    """An action of a person on a case, an account or a merchant."""

    #: A word, as in the audit log.
    action: str
    who: str
    at: datetime
    case_id: str | None = None
    account_id: str | None = None
    merchant_id: str | None = None
    #: More about it.
    detail: Mapping[str, object] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """One line for people."""
        about = f"case {self.case_id}" if self.case_id is not None else "no case"
        return f"{self.who} {self.action.replace('_', ' ')} ({about})"


def queue_events(
    connection: Connection, channels: Sequence[str], events: Sequence[Event], now: datetime
) -> None:
    """Queue each event for every channel, in the transaction of what it tells.

    Args:
      connection: in a write transaction.
      channels: names of the channels.
      events: in the order of what happened.
      now: the current time, UTC.
    """
    rows = [
        _row(channel, "event", now, event.account_id, event.text, msgspec.json.encode(event))
        for event in events
        for channel in channels
    ]
    if rows:
        connection.execute(DELIVERIES.insert(), rows)


def queue_labels(
    connection: Connection, channels: Sequence[str], labels: Sequence[Mapping[str, object]]
) -> None:
    """Queue labels for topics, as messages that `stream --labels-topic` reads.

    Args:
      connection: in a write transaction.
      channels: names of channels of Kafka.
      labels: rows of the table `labels`.
    """
    rows = [
        _row(
            channel,
            "label",
            label["labelled_at"],
            label["account_id"],
            None,
            msgspec.json.encode(label),
        )
        for label in labels
        for channel in channels
    ]
    if rows:
        connection.execute(DELIVERIES.insert(), rows)


def _row(
    channel: str,
    kind: Literal["event", "label"],
    now: object,
    account_id: object,
    text: str | None,
    event: bytes,
) -> dict[str, object]:
    return {
        "delivery_id": uuid.uuid4().hex,
        "channel": channel,
        "kind": kind,
        "account_id": account_id,
        "text": text,
        "event": event.decode(),
        "created_at": now,
        "state": "waiting",
        "attempts": 0,
    }

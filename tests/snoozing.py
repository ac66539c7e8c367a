"""Snoozes for tests."""

from datetime import UTC, datetime, timedelta

from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.snoozes import Snooze, snooze
from beam_fraud.storage.database.connection import writing


def snoozed_for_an_hour(outbox: Outbox, account: str, now: datetime | None = None) -> None:
    """Snooze `account` for an hour."""
    now = datetime.now(UTC) if now is None else now
    with writing(outbox.url) as connection:
        snooze(connection, [Snooze("account", account, now + timedelta(hours=1))], now)

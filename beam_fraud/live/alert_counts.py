"""How many alerts of a stream went out and wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


class AlertCounts(Protocol):
    """Alerts of one channel, as `alerts.outbox.Counts` has them."""

    @property
    def pending(self) -> int:
        """Waiting to be sent."""

    @property
    def sent(self) -> int:
        """Sent, in this run or an earlier one."""

    @property
    def failed(self) -> int:
        """Given up, because the receiver refused them again and again."""

    @property
    def snoozed(self) -> int:
        """Waiting for the end of a snooze."""


#: Tells channel to counts; may raise FraudError if they cannot be had now.
ReadAlerts = Callable[[], Mapping[str, AlertCounts]]


def no_alerts() -> Mapping[str, AlertCounts]:
    """For a stream that alerts nobody."""
    return {}

"""A channel for tests that records its messages, and a clock that tests set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from beam_fraud.alerts.message import Message
from beam_fraud.alerts.policy import Clock, Policy


@dataclass
class Postman:
    """Delivers messages unless `trouble` returns an error for one."""

    name: str = "postman"
    policy: Policy = field(default_factory=Policy)
    #: What to raise for a message, if anything.
    trouble: Callable[[Message], Exception | None] = lambda message: None
    delivered: list[Message] = field(default_factory=list)
    #: Every message that was tried.
    tried: list[Message] = field(default_factory=list)
    closed: int = 0

    def check(self) -> None:
        """Always ready."""

    def send(self, message: Message) -> None:
        self.tried.append(message)
        if (error := self.trouble(message)) is not None:
            raise error
        self.delivered.append(message)

    def close(self) -> None:
        self.closed += 1

    def describe(self) -> str:
        return f"{self.name}:"

    def ids(self) -> list[str]:
        """Return the joined transactions of each message."""
        return ["".join(a.transaction_id for a in message.alerts) for message in self.delivered]


class HandClock:
    """A clock that moves when a test says so."""

    def __init__(self) -> None:
        self.moment = datetime(2024, 6, 1, 12, tzinfo=UTC)
        self.clock = Clock(now=lambda: self.moment, elapsed=self.moment_in_seconds)

    def moment_in_seconds(self) -> float:
        return self.moment.timestamp()

    def pass_(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)

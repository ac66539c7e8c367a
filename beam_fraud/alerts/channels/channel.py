"""What a way to tell people of alerts does, whatever it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from beam_fraud.alerts.message import Message
from beam_fraud.alerts.policy import Policy
from beam_fraud.errors import FraudError


class MessageRefusedError(FraudError):
    """The receiver does not want this very message; others may go through."""


class TryLaterError(FraudError):
    """The receiver says when it wants to be asked again."""

    def __init__(self, said: str, seconds: float) -> None:
        """`said` in one line; not again before `seconds` have passed."""
        super().__init__(said)
        self.seconds = seconds


class Channel(Protocol):
    """A way to tell people."""

    @property
    def name(self) -> str:
        """What the channel is known by in the outbox: stable between runs, without secrets."""

    @property
    def policy(self) -> Policy:
        """What goes into one message, and how many there may be."""

    def check(self) -> None:
        """See before the launch that alerts can go out; sends none.

        Raises:
          FraudError: they cannot, in one line that says why.
        """

    def send(self, message: Message) -> None:
        """Send one message, all of it or nothing; the same again may be told by its id.

        Raises:
          MessageRefusedError: not this message, whenever it is tried; others may.
          TryLaterError: not now; the receiver says when.
          FraudError: it did not go out; it will be tried again.
        """

    def close(self) -> None:
        """Let go of what was kept open between messages; `send` opens it again."""

    def describe(self) -> str:
        """The channel, for messages; secrets are masked."""


@dataclass
class ChannelState:
    """What has become of its alerts since the start, and whether it works."""

    #: Alerts sent.
    sent: int = 0
    #: Those of them that digests stood for.
    digested: int = 0
    #: Alerts of messages that were given up.
    given_up: int = 0
    #: Why it failed the last time, or None if it did not.
    error: str | None = None
    #: Whether it has failed so often that it is tried now and then only.
    open: bool = False
    #: Whether another process sends its alerts.
    elsewhere: bool = False

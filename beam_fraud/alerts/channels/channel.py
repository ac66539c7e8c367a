"""The interface of an alert channel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from beam_fraud.alerts.message import Message
from beam_fraud.alerts.policy import Policy
from beam_fraud.errors import Code, FraudError


class MessageRefusedError(FraudError):
    """The receiver refuses this message; it may accept others."""


class TryLaterError(FraudError):
    """The receiver asks for a retry after some time."""

    def __init__(self, said: str, code: Code, seconds: float) -> None:
        """Store the reason, one line, and the seconds to wait before the next attempt."""
        super().__init__(said, code)
        self.args = (said, code, seconds)
        self.seconds = seconds


class Channel(Protocol):
    """A receiver of alerts."""

    @property
    def name(self) -> str:
        """The channel's name in the outbox: stable between runs, without secrets."""

    @property
    def policy(self) -> Policy:
        """How alerts are grouped into messages, and the limit on messages."""

    @property
    def disk(self) -> Path | None:
        """The file that it writes on this machine; None if it writes none."""

    def check(self) -> None:
        """Check before the launch that alerts can be sent; send none.

        Raises:
          FraudError: alerts cannot be sent; the message gives the reason in one line.
        """

    def send(self, message: Message) -> None:
        """Send one message completely or not at all; receivers recognise a repeat by its id.

        Raises:
          MessageRefusedError: the receiver refuses this message for good.
          TryLaterError: the receiver names the time of the next attempt.
          FraudError: the message was not sent; the sender retries it.
        """

    def close(self) -> None:
        """Close open connections; `send` opens them again."""

    def describe(self) -> str:
        """Return the channel for messages to the user, with secrets masked."""


@dataclass
class ChannelState:
    """Counts of a channel's alerts since the start, and its health."""

    #: Alerts sent.
    sent: int = 0
    #: Sent alerts that a digest summarised.
    digested: int = 0
    #: Alerts of messages that the sender gave up.
    given_up: int = 0
    #: Reason of the last failure; None without a failure.
    error: str | None = None
    #: Whether the circuit is open: repeated failures reduce attempts.
    open: bool = False
    #: Whether another process sends its alerts.
    elsewhere: bool = False

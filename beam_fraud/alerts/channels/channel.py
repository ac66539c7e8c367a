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

    def __init__(self, reason: str, code: Code, seconds: float) -> None:
        """Store the reason, one line, and the seconds to wait before the next attempt."""
        super().__init__(reason, code)
        self.args = (reason, code, seconds)
        self.seconds = seconds


class Channel(Protocol):
    """A receiver of alerts."""

    @property
    def name(self) -> str:
        """Name of the channel in the outbox: stable between runs, without secrets."""

    @property
    def policy(self) -> Policy:
        """Rules for grouping alerts into messages, and the limits on messages."""

    @property
    def disk(self) -> Path | None:
        """The file that the channel writes on this machine, or None."""

    def check(self) -> None:
        """Check before the launch that the channel can send; send nothing.

        Raises:
          FraudError: the channel cannot send; the message gives the reason in one line.
        """

    def send(self, message: Message) -> None:
        """Send one message completely or not at all; receivers recognise a repeat by its id.

        Raises:
          MessageRefusedError: the receiver refuses this message permanently.
          TryLaterError: the receiver names the time of the next attempt.
          FraudError: the message was not sent; the sender retries it.
        """

    def close(self) -> None:
        """Close open connections; `send` opens them again."""

    def describe(self) -> str:
        """Return the channel's URL for messages to the user, with secrets masked."""


@dataclass
class ChannelState:
    """Counts of a channel's alerts since the start, and its health."""

    #: Alerts sent.
    sent: int = 0
    #: Sent alerts that a digest summarised.
    digested: int = 0
    #: Alerts of messages that the sender gave up after repeated refusals.
    given_up: int = 0
    #: Reason of the last failure; None without a failure.
    error: str | None = None
    #: Whether the circuit is open: repeated failures reduce attempts.
    open: bool = False
    #: Whether another process sends the channel's alerts.
    elsewhere: bool = False

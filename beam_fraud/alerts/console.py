"""Alerts on the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO

from beam_fraud.alerts.line import alert_line
from beam_fraud.alerts.message import Message
from beam_fraud.alerts.policy import Policy
from beam_fraud.errors import FraudError


@dataclass(frozen=True)
class ConsoleChannel:
    """One readable line per alert."""

    #: Where to: standard output or error, as the command sees fit.
    stream: TextIO

    @property
    def name(self) -> str:
        """`console`."""
        return "console"

    @property
    def policy(self) -> Policy:
        """As they come: every alert is a line of its own."""
        return Policy()

    def check(self) -> None:
        """There is nothing to check."""

    def send(self, message: Message) -> None:
        """Print its alerts; what the stream's encoding lacks is shown as an escape.

        Raises:
          FraudError: whoever read the stream has gone.
        """
        text = "".join(alert_line(alert) + "\n" for alert in message.alerts)
        encoding = self.stream.encoding or "utf-8"
        try:
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self.stream.flush()
        except (OSError, ValueError) as error:
            raise FraudError(f"--alert {self.describe()} cannot be written ({error})") from None

    def close(self) -> None:
        """Nothing is kept open."""

    def describe(self) -> str:
        """`console:`."""
        return "console:"

"""Alerts on the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO

from beam_fraud.alerts.fields import FIELDS
from beam_fraud.alerts.line import alert_line
from beam_fraud.alerts.message import Message
from beam_fraud.alerts.policy import BATCH_IN_ONE, Policy
from beam_fraud.alerts.wording import headline
from beam_fraud.errors import FraudError
from beam_fraud.printable import printable


@dataclass(frozen=True)
class ConsoleChannel:
    """One readable line per alert."""

    #: Where to: standard output or error, as the command sees fit.
    stream: TextIO
    #: By default as they come, every alert on a line of its own; of a batch those that matter.
    policy: Policy = BATCH_IN_ONE
    #: What of an alert is shown.
    fields: tuple[str, ...] = FIELDS

    @property
    def name(self) -> str:
        """`console`."""
        return "console"

    def check(self) -> None:
        """There is nothing to check."""

    def send(self, message: Message) -> None:
        """Print its alerts; what the stream's encoding lacks is shown as an escape.

        Raises:
          FraudError: whoever read the stream has gone.
        """
        lines = [alert_line(alert, self.fields) for alert in message.alerts]
        if message.kind != "alerts":
            lines.insert(0, f"{message.kind.upper()} {_said(message)}")
        text = "".join(line + "\n" for line in lines)
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


def _said(message: Message) -> str:
    return headline(message) if message.text is None else printable(message.text)

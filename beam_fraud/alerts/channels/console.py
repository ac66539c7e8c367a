"""Print alerts on the terminal."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TextIO

from beam_fraud.alerts.alert import Alert, Reason
from beam_fraud.alerts.message import FIELDS, Message
from beam_fraud.alerts.policy import BATCH_IN_ONE, Policy
from beam_fraud.alerts.wording import clock_time, headline, raised_by
from beam_fraud.errors import Code, FraudError
from beam_fraud.wording import printable


def alert_line(alert: Alert, fields: Collection[str] = FIELDS) -> str:
    """Return one line for `alert`, without a line end.

    Names are untrusted. The line is safe on a terminal: it escapes unprintable characters and
    quotes a value that contains a space, `=`, `,` or a quote.

    Args:
      alert: the alert.
      fields: names of the fields to show.
    """
    raised, decision = raised_by(alert), _word(alert.decision)
    if raised is not None and "rules" in fields:
        decision = f"{decision} by={_word(raised)}"
    words = {
        "decision": decision,
        "score": f"score={alert.score:.4f}",
        "amount": f"amount={alert.amount:.2f}",
        "event_time": f"time={_word(clock_time(alert.event_time, alert.timezone))}",
        "transaction_id": f"transaction={_word(alert.transaction_id)}",
    }
    if alert.account_id is not None:
        words["account_id"] = f"account={_word(alert.account_id)}"
    if alert.merchant_id is not None:
        words["merchant_id"] = f"merchant={_word(alert.merchant_id)}"
    if alert.rules and raised is None:
        words["rules"] = f"rules={','.join(_word(rule) for rule in alert.rules)}"
    if alert.reasons:
        estimated = any(reason.approximate for reason in alert.reasons)
        name = "approximate_reasons" if estimated else "reasons"
        words["reasons"] = f"{name}={','.join(_reason(reason) for reason in alert.reasons)}"
    words["model_id"] = f"model={_word(alert.model_id)}"
    return " ".join(["ALERT", *(word for name, word in words.items() if name in fields)])


def _reason(reason: Reason) -> str:
    if reason.text is not None:
        return _word(reason.text)
    added = "" if reason.contribution is None else f"({reason.contribution:+.3g})"
    return f"{_word(reason.feature)}{added}"


def _word(text: str) -> str:
    safe = printable(text)
    plain = safe and not any(char in ' "=,' for char in safe)
    return safe if plain else '"' + safe.replace('"', '\\"') + '"'


@dataclass(frozen=True)
class ConsoleChannel:
    """One readable line per alert."""

    disk: ClassVar[Path | None] = None
    #: Stream to print to: standard output or error, chosen by the command.
    stream: TextIO
    #: Default: print each alert at once on its own line; of a batch, those with the highest scores.
    policy: Policy = BATCH_IN_ONE
    #: Fields of an alert to show.
    fields: tuple[str, ...] = FIELDS

    @property
    def name(self) -> str:
        return "console"

    def check(self) -> None: ...

    def send(self, message: Message) -> None:
        """Print the alerts; characters outside the stream's encoding become escapes.

        Raises:
          FraudError: the reader has closed the stream.
        """
        lines = [alert_line(alert, self.fields) for alert in message.alerts]
        if message.kind != "alerts":
            lines.insert(0, f"{message.kind.upper()} {_summary(message)}")
        text = "".join(line + "\n" for line in lines)
        encoding = self.stream.encoding or "utf-8"
        try:
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self.stream.flush()
        except (OSError, ValueError) as error:
            raise FraudError(
                f"--alert {self.describe()} cannot be written ({error})", Code.CHANNEL_FAILED
            ) from None

    def close(self) -> None: ...

    def describe(self) -> str:
        return "console:"


def _summary(message: Message) -> str:
    return headline(message) if message.text is None else printable(message.text)

"""An alert as one line of text that a terminal can be trusted with."""

from __future__ import annotations

from collections.abc import Collection

from beam_fraud.alert import Alert, Reason
from beam_fraud.alerts.fields import FIELDS
from beam_fraud.alerts.wording import clock_time, raised_by
from beam_fraud.printable import printable


def alert_line(alert: Alert, fields: Collection[str] = FIELDS) -> str:
    """One line for `alert`, without a line end.

    Names come from outside: what is not printable in them is shown as an escape, and what could
    be taken for the next word is quoted.

    Args:
      alert: what to show.
      fields: of the alert that may be shown.
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

"""An alert as one line of text that a terminal can be trusted with."""

from __future__ import annotations

from beam_fraud.alert import Alert, Reason


def alert_line(alert: Alert) -> str:
    """One line for `alert`, without a line end.

    Names come from outside: what is not printable in them is shown as an escape, and what could
    be taken for the next word is quoted.
    """
    words = [
        "ALERT",
        _word(alert.decision),
        f"score={alert.score:.4f}",
        f"amount={alert.amount:.2f}",
        f"time={alert.event_time:%Y-%m-%dT%H:%M:%SZ}",
        f"transaction={_word(alert.transaction_id)}",
    ]
    if alert.account_id is not None:
        words.append(f"account={_word(alert.account_id)}")
    if alert.merchant_id is not None:
        words.append(f"merchant={_word(alert.merchant_id)}")
    if alert.rules:
        words.append(f"rules={','.join(_word(rule) for rule in alert.rules)}")
    if alert.reasons:
        estimated = any(reason.approximate for reason in alert.reasons)
        name = "approximate_reasons" if estimated else "reasons"
        words.append(f"{name}={','.join(_reason(reason) for reason in alert.reasons)}")
    words.append(f"model={_word(alert.model_id)}")
    return " ".join(words)


def _reason(reason: Reason) -> str:
    if reason.text is not None:
        return _word(reason.text)
    added = "" if reason.contribution is None else f"({reason.contribution:+.3g})"
    return f"{_word(reason.feature)}{added}"


def _word(text: str) -> str:
    safe = "".join(
        char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode()
        for char in text
    )
    plain = safe and not any(char in ' "=,' for char in safe)
    return safe if plain else '"' + safe.replace('"', '\\"') + '"'

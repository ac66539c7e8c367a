"""The wording of messages, independent of their format."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from beam_fraud.alerts.alert import Alert, FiredRule, Reason
from beam_fraud.alerts.message import FIELDS, Message
from beam_fraud.wording import printable

#: Maximum of characters of an untrusted name.
NAME_LENGTH = 120
#: Maximum of characters of a headline, which is also the subject of an e-mail.
_HEADLINE_LENGTH = 150
_TEXT_LENGTH = 2_000
#: Maximum of characters of a rule's condition in a headline.
_RULE_LENGTH = 80


@dataclass(frozen=True, kw_only=True)
class ShownAlert(Alert):
    """An alert for templates: its fields, each on one line, and the default wording."""

    #: `event_time` in the schema's time zone, with the offset.
    time: str
    #: The rules that raised the decision and their conditions; None if the model did.
    raised_by: str | None
    #: Decision, the rules that raised the decision, score and amount.
    title: str
    #: Label and value of the other shown fields.
    rows: tuple[tuple[str, str], ...]
    #: The reasons in words.
    reason_lines: tuple[str, ...]


def headline(message: Message, fields: Collection[str] = FIELDS) -> str:
    """Summarise a message in one line.

    Args:
      message: a message of any kind.
      fields: fields of alerts to show.
    """
    text = _headline(message, fields)
    return text if len(text) <= _HEADLINE_LENGTH else text[: _HEADLINE_LENGTH - 1] + "…"


def clock_time(moment: datetime, timezone: str = "UTC") -> str:
    """Format a time for people, to the minute.

    Example:
      >>> clock_time(datetime(2024, 3, 1, 13, 5, tzinfo=UTC), "Europe/Brussels")
      '2024-03-01 14:05 +01:00'
    """
    try:
        local = moment.astimezone(ZoneInfo(timezone))
    except (ZoneInfoNotFoundError, OSError, ValueError):
        # This machine has no data of the time zone.
        local = moment.astimezone(UTC)
    text = local.isoformat(" ", "minutes")
    return f"{text[:16]} {text[16:]}"


def timezone_of(message: Message) -> str:
    """Return the time zone of the times in a message."""
    return next((alert.timezone for alert in message.alerts), "UTC")


def raised_by(alert: Alert, most: int = _RULE_LENGTH) -> str | None:
    """Return the rules that raised the decision with their conditions; None if the model did.

    Args:
      alert: an alert whose rules are untrusted text.
      most: maximum of characters of a condition.
    """
    raising = [rule for rule in alert.fired_rules if rule.raised]
    if not raising:
        return None
    kind = "rule" if len(raising) == 1 else "rules"
    return f"{kind} {', '.join(_rule(rule, most) for rule in raising)}"


def intro(message: Message) -> str | None:
    """Return the line above the alerts of a message, or None."""
    if message.text is not None:
        return printable(message.text, _TEXT_LENGTH)
    if message.kind == "digest":
        return (
            f"These {len(message.alerts):,} of {message.total:,} have the highest scores; "
            "`beam-fraud alerts list` shows all."
        )
    return None


def shown(alert: Alert, fields: tuple[str, ...] = FIELDS) -> ShownAlert:
    """Return an alert for a template.

    Args:
      alert: an alert whose names are untrusted; unprintable characters become escapes.
      fields: fields that the default wording shows.
    """
    safe = _printable(alert)
    time = clock_time(alert.event_time, alert.timezone)
    # The title names the rules that raised the decision.
    others = [
        _rule(rule) for rule in alert.fired_rules if not rule.raised or "decision" not in fields
    ]
    values = {
        "event_time": time,
        "account_id": safe.account_id,
        "merchant_id": safe.merchant_id,
        "rules": ", ".join(others if alert.fired_rules else safe.rules),
        "transaction_id": safe.transaction_id,
        "model_id": safe.model_id,
        "alert_id": safe.alert_id,
    }
    return ShownAlert(
        **vars(safe),
        time=time,
        raised_by=raised_by(alert),
        title=_title(alert, fields),
        rows=tuple((_LABELS[n], v) for n, v in values.items() if v and n in fields),
        reason_lines=reason_lines(alert.reasons) if "reasons" in fields else (),
    )


def reason_lines(reasons: Iterable[Reason]) -> tuple[str, ...]:
    """Return reasons in words, printable, a line each; their names are untrusted."""
    return tuple(
        f"{_in_words(one)} (estimated)" if one.approximate else _in_words(one) for one in reasons
    )


_LABELS = {
    "event_time": "Time",
    "account_id": "Account",
    "merchant_id": "Merchant",
    "rules": "Rules",
    "transaction_id": "Transaction",
    "model_id": "Model",
    "alert_id": "Alert",
}


def _headline(message: Message, fields: Collection[str]) -> str:
    if message.kind == "notice":
        return f"Fraud scoring: {printable(message.text or 'a notice', _HEADLINE_LENGTH)}"
    if message.kind in ("event", "label"):
        return f"Fraud review: {printable(message.text or message.kind, _HEADLINE_LENGTH)}"
    if message.kind == "test":
        return "Fraud alert: a test"
    if len(message.alerts) == 1 and message.total == 1:
        return f"Fraud alert: {_title(message.alerts[0], fields)}"
    accounts = {alert.account_id for alert in message.alerts}
    account = ""
    if (
        message.kind == "alerts"
        and len(accounts) == 1
        and None not in accounts
        and "account_id" in fields
    ):
        account = f" of account {printable(str(accounts.pop()), 60)}"
    highest = max((alert.score for alert in message.alerts), default=0.0)
    score = f", highest score {_score(highest)}" if "score" in fields else ""
    return f"Fraud alerts: {message.total:,}{account}{score}"


def _title(alert: Alert, fields: Collection[str]) -> str:
    decision, raised = printable(alert.decision, NAME_LENGTH), raised_by(alert)
    if raised is not None and "rules" in fields:
        decision = f"{decision} by {raised}"
    parts = {
        "decision": decision,
        "score": f"score {_score(alert.score)}",
        "amount": f"amount {alert.amount:,.2f}",
    }
    return ", ".join(part for name, part in parts.items() if name in fields) or "a transaction"


def _score(score: float) -> str:
    """Format with two significant digits: models with few frauds have thresholds near 0."""
    return f"{score:.2f}" if score >= 0.1 or not score else f"{score:.2g}"


def _rule(rule: FiredRule, most: int = _RULE_LENGTH) -> str:
    name, about = printable(rule.rule, NAME_LENGTH), rule.description or rule.condition
    return f"{name} ({printable(about, most)})" if about else name


def _name(text: str | None, most: int = NAME_LENGTH) -> str | None:
    return None if text is None else printable(text, most)


def _printable(alert: Alert) -> Alert:
    """Return an alert whose texts are printable; every reason has a text."""
    fired = tuple(
        replace(
            rule,
            rule=printable(rule.rule, NAME_LENGTH),
            condition=_name(rule.condition, _TEXT_LENGTH),
            description=_name(rule.description, _TEXT_LENGTH),
        )
        for rule in alert.fired_rules
    )
    return replace(
        alert,
        alert_id=printable(alert.alert_id, NAME_LENGTH),
        transaction_id=printable(alert.transaction_id, NAME_LENGTH),
        channel=printable(alert.channel),
        account_id=_name(alert.account_id),
        merchant_id=_name(alert.merchant_id),
        decision=printable(alert.decision, NAME_LENGTH),
        rules=tuple(printable(rule, NAME_LENGTH) for rule in alert.rules),
        reasons=tuple(map(_printable_reason, alert.reasons)),
        model_id=printable(alert.model_id, NAME_LENGTH),
        fired_rules=fired,
        timezone=printable(alert.timezone, NAME_LENGTH),
    )


def _printable_reason(reason: Reason) -> Reason:
    feature, approximate = printable(reason.feature, NAME_LENGTH), bool(reason.approximate)
    return replace(reason, feature=feature, text=_in_words(reason), approximate=approximate)


def _in_words(reason: Reason) -> str:
    if reason.text is not None:
        return printable(reason.text, 300)
    value = "missing" if reason.value is None else f"{reason.value:g}"
    return f"{printable(reason.feature, NAME_LENGTH)} is {value}"

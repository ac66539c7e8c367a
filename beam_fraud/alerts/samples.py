"""Sample messages to test a template or a channel."""

from __future__ import annotations

from datetime import UTC, datetime

from beam_fraud.alerts.alert import Alert, FiredRule, Reason, alert_id
from beam_fraud.alerts.message import Message

_WHEN = datetime(2024, 5, 1, 12, 30, 15, tzinfo=UTC)


def sample_alert(
    transaction: str = "test-transaction", channel: str = "test", when: datetime = _WHEN
) -> Alert:
    """Return a sample alert.

    Args:
      transaction: id of the transaction.
      channel: name of the channel.
      when: time of the event, UTC.
    """
    return Alert(
        alert_id=alert_id(transaction, channel),
        transaction_id=transaction,
        channel=channel,
        event_time=when,
        account_id="test-account",
        merchant_id="test-merchant",
        amount=1234.5,
        score=0.97,
        decision="decline",
        rules=("large_and_fast",),
        reasons=(
            Reason(
                "account_count_1h",
                7.0,
                0.31,
                "7 transactions of the account in the last hour, usually 1",
                False,
            ),
            Reason("amount", 1234.5, 0.22, "amount 1,234.50, usually 38.20", True),
            Reason("merchant_risk_7d", None, 0.05),
        ),
        model_id="test@000000000000",
        fired_rules=(FiredRule("large_and_fast", False, "amount > 1000 and account_count_1h > 5"),),
    )


def _bare() -> Alert:
    """Return an alert without any optional field."""
    alert = sample_alert("test-2")
    values = {name: getattr(alert, name) for name in alert.__dataclass_fields__}
    values |= {
        "account_id": None,
        "merchant_id": None,
        "rules": (),
        "reasons": (),
        "fired_rules": (),
    }
    return Alert(**values)


_THREE = (sample_alert("test-1"), _bare(), sample_alert("test-3"))
#: One message of every kind.
SAMPLES = (
    Message("0" * 32, "alerts", _WHEN, (sample_alert(),), 1),
    Message("1" * 32, "alerts", _WHEN, _THREE, 3),
    Message("2" * 32, "digest", _WHEN, _THREE, 1_000),
    Message("3" * 32, "notice", _WHEN, (), 0, "rule 'large_and_fast' is muted"),
    Message("4" * 32, "test", _WHEN, (sample_alert(),), 1, "This is a test."),
)

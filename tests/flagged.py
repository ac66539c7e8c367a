"""Flagged transactions for tests."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from beam_fraud.alerts.alert import Alert, Reason, alert_id
from beam_fraud.alerts.message import Message
from beam_fraud.schema.stages import SCORED

START = datetime(2024, 5, 1, 12, 0, 0, 5, tzinfo=UTC)


def flagged_batch(
    ids=("t0", "t1", "t2"), *, score=0.9, model_id="m@1", account="a", minutes=None
) -> pa.RecordBatch:
    """One flagged row per id, a minute apart."""
    minutes = range(len(ids)) if minutes is None else minutes
    reasons = [{"feature": "V14", "value": -3.5, "contribution": 0.4}]
    rows = [
        {
            "transaction_id": key,
            "event_time": START + timedelta(minutes=minute),
            "account_id": account,
            "merchant_id": None,
            "amount": 12.5,
            "score": score,
            "flagged": True,
            "decision": "review",
            "rules": ["large", "ünusual"],
            "reasons": reasons,
            "model_id": model_id,
            "rules_id": "rules@1",
            "shadow_rules": ["tried"],
        }
        for key, minute in zip(ids, minutes, strict=True)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=SCORED)


def message_of(alerts, delivery_id="d" * 32) -> Message:
    """Return a message of alerts, fixed at START."""
    return Message(delivery_id, "alerts", START, tuple(alerts), len(alerts))


def alerts_of(batch: pa.RecordBatch, channels: Sequence[str]) -> list[Alert]:
    """Return an alert for each row and channel, in the order of rows."""
    columns = [name for name in Alert.__dataclass_fields__ if name in batch.schema.names]
    alerts = []
    for row in batch.select(columns).to_pylist():
        row["rules"] = tuple(row["rules"] or ())
        row["reasons"] = tuple(Reason(**reason) for reason in row["reasons"] or ())
        for channel in channels:
            key = alert_id(row["transaction_id"], channel)
            alerts.append(Alert(alert_id=key, channel=channel, **row))
    return alerts

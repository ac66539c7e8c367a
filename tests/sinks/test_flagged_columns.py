"""The columns of a batch are those of its rows, for any division."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from beam_fraud.alerts.alert import AlertContext, RuleTerms
from beam_fraud.schema.stages import SCORED
from beam_fraud.sinks.flagged_columns import alert_columns, flagged_columns
from tests.flagged import alerts_of, flagged_batch

FULL = {
    "feature": "V1",
    "value": 1.5,
    "contribution": None,
    "text": 'a "b" \0',
    "approximate": True,
}
EMPTY = dict.fromkeys(FULL)
LISTS = [
    ([], []),
    (None, None),
    (["a", "b"], [FULL]),
    (["ü"], [EMPTY, FULL, FULL]),
    (["a", "b"], None),
]


@pytest.fixture
def batch() -> pa.RecordBatch:
    rows = flagged_batch([f"t{number}" for number in range(len(LISTS))]).to_pylist()
    for row, (rules, reasons) in zip(rows, LISTS, strict=True):
        row |= {"rules": rules, "shadow_rules": rules, "reasons": reasons}
        row |= {"merchant_id": "m" if reasons else None}
    return pa.RecordBatch.from_pylist(rows, schema=SCORED)


@pytest.mark.parametrize("start", range(len(LISTS)))
@pytest.mark.parametrize("length", range(len(LISTS)))
def test_a_slice_has_the_columns_of_its_own_rows(
    batch: pa.RecordBatch, start: int, length: int
) -> None:
    part = batch.slice(start, length)
    columns = flagged_columns(part)
    for name in ("rules", "shadow_rules", "reasons"):
        expected = [row[name] or [] for row in part.to_pylist()]
        assert [json.loads(text) for text in columns.pop(name).to_pylist()] == expected
    for name, values in columns.items():
        assert values.equals(part.column(name))


def test_columns_of_alerts_are_those_of_alerts_one_by_one(batch: pa.RecordBatch) -> None:
    channels = ["console", "file:x"]
    columns = alert_columns(flagged_columns(batch), channels, AlertContext())
    by_id = {row["alert_id"]: row for row in pa.table(columns).to_pylist()}
    expected = {alert.alert_id: alert.row() for alert in alerts_of(batch, channels)}
    assert by_id.keys() == expected.keys()
    for key, row in expected.items():
        assert by_id[key] == row


def test_alerts_carry_their_rules_and_the_time_zone(batch: pa.RecordBatch) -> None:
    rules = (RuleTerms("large", "review", 0, "amount > 10", "A large amount"),)
    context = AlertContext("Europe/Brussels", review=0.95, decline=None, rules=rules)
    columns = alert_columns(flagged_columns(batch), ["console"], context)
    assert set(columns["timezone"].to_pylist()) == {"Europe/Brussels"}
    decoded = [json.loads(text) for text in columns["fired_rules"].to_pylist()]
    fired = [[rule["rule"] for rule in rules] for rules in decoded]
    assert fired == [
        ["large"] if "large" in (row["rules"] or []) else [] for row in batch.to_pylist()
    ]

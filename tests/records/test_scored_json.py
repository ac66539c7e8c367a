"""JSON of scored rows has the values of the rows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.records.messages import scored_json
from beam_fraud.schema.stages import SCORED

REASON: dict[str, Any] = {
    "feature": "amount",
    "value": None,
    "contribution": 0.25,
    "text": "amount 12.50, usually 3.00",
    "approximate": False,
}
ROW: dict[str, Any] = {
    "transaction_id": "t1",
    "event_time": datetime(2024, 5, 1, 12, 0, 0, 5, tzinfo=UTC),
    "account_id": "a1",
    "merchant_id": None,
    "amount": 12.5,
    "score": 0.1 + 0.2,
    "flagged": True,
    "decision": "review",
    "rules": ["large", "fast"],
    "reasons": [REASON],
    "model_id": "m@1",
    "rules_id": "rules@1",
    "shadow_rules": ["tried"],
}


def batch_of(*rows: dict[str, Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), SCORED)


def test_a_message_has_every_column_in_the_order_of_the_schema() -> None:
    (message,) = scored_json(batch_of(ROW))
    decoded = json.loads(message)
    assert list(decoded) == SCORED.names
    assert decoded == {**ROW, "event_time": "2024-05-01T12:00:00.000005Z"}


def test_a_row_without_rules_and_reasons_has_empty_lists() -> None:
    plain = {**ROW, "flagged": False, "rules": [], "reasons": None}
    messages = scored_json(batch_of(plain, ROW, {**plain, "rules": None}))
    lists = [(decoded["rules"], decoded["reasons"]) for decoded in map(json.loads, messages)]
    assert lists == [([], []), (ROW["rules"], ROW["reasons"]), ([], [])]


def test_a_whole_second_has_its_microseconds_too() -> None:
    whole = {**ROW, "event_time": datetime(2024, 5, 1, tzinfo=UTC)}
    assert b'"2024-05-01T00:00:00.000000Z"' in scored_json(batch_of(whole))[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_json_lacks_are_null(value: float) -> None:
    reasons = [{**REASON, "value": value}]
    (message,) = scored_json(batch_of({**ROW, "reasons": reasons}))
    assert json.loads(message)["reasons"] == [{**reasons[0], "value": None}]


@given(
    st.text(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(0, 1),
    st.integers(0, 7_000_000_000_000_000),
)
def test_messages_read_back_bit_for_bit(
    name: str, amount: float, score: float, micros: int
) -> None:
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    row = {**ROW, "transaction_id": name, "event_time": when, "amount": amount, "score": score}
    decoded = json.loads(scored_json(batch_of(row))[0])
    assert decoded["transaction_id"] == name
    assert (decoded["amount"].hex(), decoded["score"].hex()) == (amount.hex(), score.hex())
    assert datetime.fromisoformat(decoded["event_time"]) == when


def test_no_rows_are_no_messages() -> None:
    assert scored_json(batch_of()) == []
    assert len(scored_json(batch_of(ROW, ROW, ROW).slice(1, 2))) == 2

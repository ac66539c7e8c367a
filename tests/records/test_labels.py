"""Each label is read alone, and a bad label costs only itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.records.faults import REASONS
from beam_fraud.records.labels import read_labels
from beam_fraud.schema.stages import DEAD_LETTER, LABEL
from beam_fraud.sources.raw import PAYLOAD, POSITION, Origin, origin_of, with_origin

LABELLED: dict[str, Any] = {
    "transaction_id": "t1",
    "account_id": "a1",
    "merchant_id": "m1",
    "event_time": "2024-05-01T12:00:00Z",
    "label": 1,
    "labelled_at": "2024-05-03T09:30:00.000007+02:00",
    "labelled_by": "eve",
}
ORIGIN = Origin("labels:2", "jsonl", appended=5, content="labels")


def raw(*payload: bytes) -> pa.RecordBatch:
    described = pa.schema([pa.field(POSITION, pa.int64()), pa.field(PAYLOAD, pa.binary())])
    positions = pa.array(range(40, 40 + len(payload)), pa.int64())
    return pa.RecordBatch.from_arrays(
        [positions, pa.array(payload, pa.binary())], schema=with_origin(described, ORIGIN)
    )


def messages(*labels: dict[str, Any]) -> pa.RecordBatch:
    return raw(*(json.dumps(label).encode() for label in labels))


def test_a_label_is_read() -> None:
    labels, dead = read_labels(messages(LABELLED))
    assert labels.schema.names == [*LABEL.names, POSITION]
    assert [labels.schema.field(name).type for name in LABEL.names] == LABEL.types
    assert origin_of(labels) == ORIGIN
    assert labels.to_pylist() == [
        {
            **LABELLED,
            "event_time": datetime(2024, 5, 1, 12, tzinfo=UTC),
            "labelled_at": datetime(2024, 5, 3, 7, 30, 0, 7, tzinfo=UTC),
            POSITION: 40,
        }
    ]
    assert len(dead) == 0
    assert dead.schema == DEAD_LETTER


def test_optional_fields_may_be_absent() -> None:
    needed = ("transaction_id", "event_time", "label", "labelled_at")
    labels, dead = read_labels(messages({name: LABELLED[name] for name in needed}))
    (row,) = labels.to_pylist()
    assert (row["account_id"], row["merchant_id"], row["labelled_by"]) == (None, None, "")
    assert len(dead) == 0


def test_other_spellings_are_the_same_label() -> None:
    spelled = {
        **LABELLED,
        "transaction_id": 17,
        "event_time": 1_714_564_800_000,
        "label": "1",
        "labelled_at": "1714721400.000007",
        "more": {"of": ["this"]},
    }
    labels, _ = read_labels(messages(spelled, {**LABELLED, "label": False}))
    first, second = labels.to_pylist()
    assert (first["transaction_id"], first["label"]) == ("17", 1)
    assert first["event_time"] == datetime(2024, 5, 1, 12, tzinfo=UTC)
    assert second["label"] == 0


WRONG = [
    ("transaction_id", None, "missing_id"),
    ("transaction_id", "", "missing_id"),
    ("transaction_id", "x" * 257, "too_long"),
    ("account_id", "a\0b", "wrong_type"),
    ("merchant_id", ["m"], "wrong_type"),
    ("labelled_by", "x" * 300, "too_long"),
    ("event_time", None, "missing_time"),
    ("event_time", "soon", "unparseable_time"),
    ("event_time", "2200-01-01", "impossible_time"),
    ("label", None, "invalid_label"),
    ("label", 2, "invalid_label"),
    ("label", 0.5, "invalid_label"),
    ("label", "fraud", "invalid_label"),
    ("labelled_at", None, "missing_time"),
    ("labelled_at", "2024-02-30", "unparseable_time"),
    ("labelled_at", -1, "impossible_time"),
]


@pytest.mark.parametrize(("member", "value", "reason"), WRONG)
def test_a_bad_label_costs_only_itself(member: str, value: object, reason: str) -> None:
    bad = {**LABELLED, member: value}
    labels, dead = read_labels(messages(LABELLED, bad, {**LABELLED, "label": 0}))
    labels.validate(full=True)
    assert labels[POSITION].to_pylist() == [40, 42]
    assert labels["label"].to_pylist() == [1, 0]
    (letter,) = dead.to_pylist()
    assert letter["source"] == "labels:2"
    assert (letter["position"], letter["reason"]) == (41, reason)
    assert letter["detail"].startswith(f"{member}: ")
    assert json.loads(letter["payload"]) == bad


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"17", b"\xff\xfe", b"[" * 100_000])
def test_a_record_that_is_no_object_is_malformed(payload: bytes) -> None:
    good = json.dumps(LABELLED).encode()
    labels, dead = read_labels(raw(good, payload, good))
    assert labels[POSITION].to_pylist() == [40, 42]
    (letter,) = dead.to_pylist()
    assert letter["reason"] in ("malformed", "wrong_type")
    assert letter["payload"] == payload


@given(
    st.lists(
        st.one_of(
            st.just(json.dumps(LABELLED).encode()),
            st.binary(max_size=20),
            st.fixed_dictionaries(
                {},
                optional={
                    name: st.none() | st.booleans() | st.floats() | st.integers() | st.text()
                    for name in LABEL.names
                },
            ).map(lambda label: json.dumps(label).encode()),
        ),
        max_size=8,
    )
)
def test_every_message_has_the_same_result_alone(payload: list[bytes]) -> None:
    labels, dead = read_labels(raw(*payload))
    labels.validate(full=True)
    dead.validate(full=True)
    assert sorted(labels[POSITION].to_pylist() + dead["position"].to_pylist()) == list(
        range(40, 40 + len(payload))
    )
    assert set(dead["reason"].to_pylist()) <= set(REASONS)
    alone = [read_labels(raw(one)) for one in payload]
    assert [len(good) for good, _ in alone] == [
        int(position in labels[POSITION].to_pylist()) for position in range(40, 40 + len(payload))
    ]

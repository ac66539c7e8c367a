"""Records in envelopes: the same transactions, and every other record counted."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_fraud.features.dataset import Dataset, load_dataset
from beam_fraud.records.parse import parse
from beam_fraud.records.validate import validate_arrivals
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import schema_from_toml
from beam_fraud.sources.raw import APPENDED, PAYLOAD, POSITION, Origin, with_origin
from beam_fraud.storage.urls import Place

ROLES = """
[roles]
transaction_id = "id"
event_time = "at"
account_id = "card.number"
amount = "value"
"""
PLAIN = schema_from_toml(ROLES)

rows = st.lists(
    st.builds(
        dict,
        id=st.integers(0, 10**9),
        at=st.integers(1_600_000_000, 1_700_000_000),
        card=st.builds(dict, number=st.integers(1, 99).map(str)),
        value=st.floats(0, 1e6),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda row: row["id"],
)


def schema_of(unwrap: str) -> Schema:
    return schema_from_toml(f'{ROLES}\n[source]\nunwrap = "{unwrap}"\n')


def raw_of(payloads: list[bytes | None]) -> pa.RecordBatch:
    described = pa.schema([(POSITION, pa.int64()), (PAYLOAD, pa.binary()), (APPENDED, pa.int64())])
    columns = [
        pa.array(range(len(payloads)), pa.int64()),
        pa.array(payloads, pa.binary()),
        pa.array([1] * len(payloads), pa.int64()),
    ]
    schema = with_origin(described, Origin("orders:0", "jsonl"))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def outcomes(payloads: list[bytes | None], schema: Schema) -> tuple[list[dict], list[str], dict]:
    """Return transactions without positions, reasons of dead letters, and counts of the others."""
    parsed = parse(raw_of(payloads), schema, labels="ignored")
    checked = validate_arrivals(parsed, schema, labels="ignored", ahead=None, now=None)
    counted = len(checked.transactions) + len(checked.dead) + checked.skipped.total()
    assert counted == len(payloads)
    transactions = checked.transactions.drop_columns([POSITION]).to_pylist()
    return transactions, checked.dead.column("reason").to_pylist(), dict(checked.skipped)


def plain(row: dict) -> bytes:
    return json.dumps(row).encode()


def change(row: dict, op: str, with_schema: bool) -> bytes:
    value: dict[str, Any] = {
        "before": row if op in "ud" else None,
        "after": None if op == "d" else row,
        "source": {"connector": "postgresql", "ts_ms": 1},
        "op": op,
        "ts_ms": 1707372016000,
    }
    return plain({"schema": {"type": "struct"}, "payload": value} if with_schema else value)


@given(rows=rows, data=st.data())
@settings(max_examples=60, deadline=None)
def test_insertions_are_transactions_and_other_changes_are_counted(
    rows: list[dict], data: st.DataObject
) -> None:
    ops = [data.draw(st.sampled_from("crudt") | st.just(None)) for _ in rows]
    payloads = [
        None if op is None else change(row, op, data.draw(st.booleans()))
        for row, op in zip(rows, ops, strict=True)
    ]
    inserted = [row for row, op in zip(rows, ops, strict=True) if op in ("c", "r")]
    expected, _, _ = outcomes([plain(row) for row in inserted], PLAIN)
    read, dead, skipped = outcomes(payloads, schema_of("debezium"))
    assert (read, dead) == (expected, [])
    assert skipped.get("correction", 0) == ops.count("u")
    assert skipped.get("tombstone", 0) == sum(op in ("d", "t", None) for op in ops)


@given(rows=rows, data=st.data())
@settings(max_examples=40, deadline=None)
def test_cloud_events_of_both_modes_are_transactions(rows: list[dict], data: st.DataObject) -> None:
    def event(row: dict) -> bytes:
        about = {"specversion": "1.0", "id": "e", "source": "/pos", "type": "tx"}
        mode = data.draw(st.sampled_from(["structured", "binary", "base64"]))
        if mode == "binary":
            return plain(row)
        if mode == "base64":
            return plain({**about, "data_base64": base64.b64encode(plain(row)).decode()})
        return plain({**about, "data": row})

    expected, _, _ = outcomes([plain(row) for row in rows], PLAIN)
    read, dead, skipped = outcomes([event(row) for row in rows], schema_of("cloudevents"))
    assert (read, dead, skipped) == (expected, [], {})


ROW = {"id": 1, "at": 1_600_000_000, "card": {"number": "7"}, "value": 1.5}


@pytest.mark.parametrize(
    ("payload", "unwrap", "reason"),
    [
        (plain({"op": "c", "after": None}), "debezium", "malformed"),
        (plain({"op": "m", "message": {}}), "debezium", "malformed"),
        (plain({"op": "c", "after": {**ROW, "value": []}}), "debezium", "wrong_type"),
        (plain(ROW), "debezium", "malformed"),
        (plain({"specversion": "1.0"}), "cloudevents", "malformed"),
        (plain({"specversion": "1.0", "data_base64": "%"}), "cloudevents", "malformed"),
        (plain({"specversion": "1.0", "data_base64": "e30="}), "cloudevents", "missing_id"),
    ],
)
def test_an_envelope_without_a_record_costs_only_itself(
    payload: bytes, unwrap: str, reason: str
) -> None:
    event = plain({"specversion": "1", "data": ROW})
    good = change(ROW, "c", True) if unwrap == "debezium" else event
    read, dead, _ = outcomes([good, payload, good], schema_of(unwrap))
    assert (len(read), dead) == (2, [reason])


@pytest.mark.parametrize(
    ("payload", "reason", "named"),
    [
        (change(ROW, "c", True), "enveloped", 'unwrap = "debezium"'),
        (change(ROW, "c", False), "enveloped", 'unwrap = "debezium"'),
        (plain({"specversion": "1.0", "data": ROW}), "enveloped", 'unwrap = "cloudevents"'),
        (b"\0\0\0\0\x0c" + plain(ROW), "framed", "--schema-registry"),
        (json.dumps(plain(ROW).decode()).encode(), "wrong_type", "encoded twice"),
        (plain([ROW]), "wrong_type", "array"),  # type: ignore[arg-type]
    ],
)
def test_a_record_in_a_form_that_the_schema_does_not_name_names_it(
    payload: bytes, reason: str, named: str
) -> None:
    parsed = parse(raw_of([plain(ROW), payload]), PLAIN, labels="ignored")
    checked = validate_arrivals(parsed, PLAIN, labels="ignored", ahead=None, now=None)
    (dead,) = checked.dead.to_pylist()
    assert dead["reason"] == reason
    assert named in dead["detail"]
    assert dead["payload"] == payload


def load(path: Path, schema: Schema) -> Dataset:
    return load_dataset([Place.at(path)], schema, labels="ignored")


@given(
    rows=rows,
    ops=st.lists(st.sampled_from("cru"), min_size=30, max_size=30),
    suffix=st.sampled_from([".jsonl", ".json", ".jsonl.bz2"]),
)
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_files_of_changes_hold_the_same_transactions(
    rows: list[dict], ops: list[str], suffix: str, tmp_path: Path
) -> None:
    # The first is an insertion: a file without a transaction is refused.
    ops[0] = "c"
    changes = [change(row, op, True) for row, op in zip(rows, ops, strict=False)]
    dressed, clean = tmp_path / f"changes{suffix}", tmp_path / "clean.jsonl"
    text = b"\n".join(changes)
    writer: Callable[[bytes], bytes] = bytes
    if suffix.endswith(".bz2"):
        import bz2

        writer = bz2.compress
    if suffix == ".json":
        text = b"[" + b",".join(changes) + b"]"
    dressed.write_bytes(writer(text))
    inserted = [plain(row) for row, op in zip(rows, ops, strict=False) if op != "u"]
    clean.write_bytes(b"\n".join(inserted))
    read, expected = load(dressed, schema_of("debezium")), load(clean, PLAIN)
    assert read.transactions.equals(expected.transactions)
    assert read.rows_correction == len(rows) - len(inserted)
    left_out = sum(count for name, count in read.rows_by_outcome.items() if name != "rows_in")
    assert read.rows_in == len(rows) == left_out + read.transactions.num_rows

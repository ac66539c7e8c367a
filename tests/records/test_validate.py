"""Every reason of a dead letter, caused by a file."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from beam_fraud.errors import FraudError
from beam_fraud.records.faults import REASONS
from beam_fraud.records.parse import parse
from beam_fraud.records.validate import validate
from beam_fraud.runners.submission import LOCAL_RUNNER
from beam_fraud.schema.schema import FeatureColumn, Schema
from beam_fraud.schema.velocity import Velocity
from beam_fraud.sources.raw import Origin, with_origin
from beam_fraud.transforms.parse import DEAD, Parse, Validate
from tests.reading import BANK, COLUMNS, GOOD, csv_of, read, write_text

#: Column, a value that it cannot have in CSV, the reason.
WRONG = [
    ("id", "", "missing_id"),
    ("account", "", "missing_id"),
    ("shop", "x" * 257, "too_long"),
    ("id", "a\0b", "wrong_type"),
    ("when", "", "missing_time"),
    ("when", "yesterday", "unparseable_time"),
    ("when", "2024-02-30", "unparseable_time"),
    ("when", "2200-01-01", "impossible_time"),
    ("when", "9999-12-31T00:00:00Z", "impossible_time"),
    ("when", "1969-12-31 23:59:59", "impossible_time"),
    ("when", "-1", "impossible_time"),
    ("amount", "", "missing_amount"),
    ("amount", "NULL", "missing_amount"),
    ("amount", "ten", "wrong_type"),
    ("amount", "inf", "non_finite_amount"),
    ("amount", "-nan", "non_finite_amount"),
    ("amount", "-0.01", "negative_amount"),
    ("amount", "3.5e38", "too_large"),
    ("age", "-3.5e38", "too_large"),
    ("risk", "1e300", "too_large"),
    ("age", "", "missing_feature"),
    ("age", "old", "wrong_type"),
    ("age", "-inf", "non_finite_feature"),
    ("mcc", "", "missing_feature"),
    ("mcc", "5" * 300, "too_long"),
    ("fraud", "2", "invalid_label"),
    ("fraud", "", "invalid_label"),
]


@pytest.mark.parametrize(("column", "value", "reason"), WRONG)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_reasons(column: str, value: str, reason: str, kind: str, tmp_path: Path) -> None:
    rows = [{**GOOD, "id": "t0"}, {**GOOD, column: value}, {**GOOD, "id": "t2"}]
    if kind == "csv":
        text = csv_of(*rows)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    result = read(write_text(tmp_path / f"rows.{kind}", text))
    assert list(result.rows) == [0, 2]
    assert list(result.dead) == [1]
    letter = result.dead[1]
    assert (letter["source"], letter["reason"]) == (f"rows.{kind}", reason)
    line = 3 if kind == "csv" else 2
    assert letter["detail"] == f"line {line}, {column}: {REASONS[reason]}"
    assert letter["payload"] == text.splitlines()[2 if kind == "csv" else 1]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1,2,3", "wrong_column_count"),
        (csv_of(GOOD).splitlines()[1] + b",", "wrong_column_count"),
        (b'"open' + b"," * (len(COLUMNS) - 1), "wrong_column_count"),
        (csv_of({**GOOD, "mcc": "\udcff"}).splitlines()[1], "malformed"),
    ],
)
def test_lines_that_are_no_csv_record(line: bytes, reason: str, tmp_path: Path) -> None:
    text = csv_of(GOOD) + line + b"\n" + csv_of({**GOOD, "id": "last"}).splitlines()[1]
    result = read(write_text(tmp_path / "rows.csv", text))
    assert [row["transaction_id"] for row in result.rows.values()] == ["t1", "last"]
    assert result.dead[1]["reason"] == reason
    assert result.dead[1]["payload"] == line


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (json.dumps(GOOD)[:-3], "malformed", "not a JSON object"),
        ("[1, 2]", "wrong_type", "Expected `object`, got `array`"),
        (json.dumps({**GOOD, "amount": [7]}), "wrong_type", "amount: Expected"),
        (json.dumps({**GOOD, "id": 1.5}), "wrong_type", "id: not of the type"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "id"}), "missing_id", "id: "),
        (json.dumps({**GOOD, "when": None}), "missing_time", "when: "),
    ],
)
def test_lines_that_are_no_json_record(line: str, reason: str, detail: str, tmp_path: Path) -> None:
    text = "\n".join([json.dumps(GOOD), line, json.dumps({**GOOD, "id": "last"})])
    result = read(write_text(tmp_path / "rows.jsonl", text.encode()))
    assert [row["transaction_id"] for row in result.rows.values()] == ["t1", "last"]
    letter = result.dead[1]
    assert (letter["reason"], letter["payload"]) == (reason, line.encode())
    assert letter["detail"].startswith(f"line 2, {detail}")


def test_parquet_rows_are_kept_as_json(tmp_path: Path) -> None:
    table = pa.table({c: [str(GOOD[c])] for c in COLUMNS if c not in ("amount", "when")})
    table = table.append_column("amount", pa.array([float("inf")]))
    table = table.append_column("when", pa.array([2**62], pa.timestamp("us", "Europe/Brussels")))
    pq.write_table(table, tmp_path / "rows.parquet")
    letter = read(tmp_path / "rows.parquet").dead[0]
    payload = json.loads(letter["payload"])
    assert letter["reason"] == "impossible_time"
    assert (payload["id"], payload["amount"]) == ("t1", "inf")
    assert "GOOD" not in letter["detail"]


def test_details_hold_no_value(tmp_path: Path) -> None:
    secret = "4111111111111111"
    rows = [{**GOOD, c: v} for c in COLUMNS for v in (secret * 20, f"-{secret}", [secret])]
    csv = csv_of(*(row for row in rows if not any(isinstance(v, list) for v in row.values())))
    text = "\n".join(json.dumps(row) for row in rows) + f'\n{{"{secret}'
    for path in (
        write_text(tmp_path / "rows.jsonl", text.encode()),
        write_text(tmp_path / "rows.csv", csv + f'"{secret}\n{secret}\n'.encode()),
    ):
        dead = read(path).dead
        assert dead
        assert all(secret not in f"{d['reason']} {d['detail']}" for d in dead.values())


def test_the_first_fault_in_the_order_of_the_columns_is_reported(tmp_path: Path) -> None:
    row = {**GOOD, "id": "", "amount": "x", "age": "y"}
    assert read(write_text(tmp_path / "rows.csv", csv_of(row))).dead[0]["reason"] == "missing_id"


def test_refunds_are_transactions_where_the_schema_says_so(tmp_path: Path) -> None:
    path = write_text(tmp_path / "rows.csv", csv_of({**GOOD, "amount": "-3"}))
    refunds = Schema("refunds", BANK.roles, BANK.features, allow_negative=True)
    assert read(path, refunds).rows[0]["amount"] == -3.0


@pytest.mark.parametrize("amount", ["1e10", "-1e10", "9999999999.99", "-3.4e38"])
def test_amounts_too_large_for_windows_are_dead_letters(amount: str, tmp_path: Path) -> None:
    path = write_text(tmp_path / "rows.csv", csv_of({**GOOD, "amount": amount}))
    plain = Schema("plain", BANK.roles, BANK.features, allow_negative=True)
    velocity = (Velocity(("account_id",), ("1d",), ("mean",)),)
    summing = Schema("sums", BANK.roles, BANK.features, allow_negative=True, velocity=velocity)
    assert read(path, plain).rows[0]["amount"] == float(amount)
    letters = read(path, summing).dead.values()
    assert [letter["reason"] for letter in letters] == ["too_large"] * (abs(float(amount)) >= 1e10)


def test_scoring_ignores_labels(tmp_path: Path) -> None:
    path = write_text(tmp_path / "rows.csv", csv_of({**GOOD, "fraud": "unknown"}))
    assert "label" not in read(path, labels="ignored").rows[0]


@pytest.mark.parametrize("spelling", ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", " "])
def test_spellings_of_an_absent_number(spelling: str, tmp_path: Path) -> None:
    row = read(write_text(tmp_path / "r.csv", csv_of({**GOOD, "risk": spelling}))).rows[0]
    assert row["risk"] != row["risk"] or row["risk"] is None


def test_columns_that_may_be_missing_may_be_absent_from_the_file(tmp_path: Path) -> None:
    columns = tuple(c for c in COLUMNS if c not in ("risk", "channel", "currency"))
    table = pa.table({c: [str(GOOD[c])] for c in columns})
    pq.write_table(table, tmp_path / "rows.parquet")
    write_text(tmp_path / "rows.csv", csv_of(GOOD, columns=columns))
    write_text(tmp_path / "rows.jsonl", json.dumps({c: GOOD[c] for c in columns}).encode())
    for name in ("rows.parquet", "rows.csv", "rows.jsonl"):
        row = read(tmp_path / name).rows[0]
        assert (row["channel"], row["currency"]) == (None, None)
        assert row["risk"] != row["risk"] or row["risk"] is None


def test_a_currency_that_is_a_feature_is_required(tmp_path: Path) -> None:
    schema = Schema(
        "money",
        {**BANK.roles, "currency": "currency"},
        (FeatureColumn("currency", "categorical"),),
    )
    path = write_text(tmp_path / "r.csv", csv_of({**GOOD, "currency": ""}))
    assert read(path, schema).dead[0]["reason"] == "missing_feature"


@pytest.mark.parametrize(
    ("column", "sent", "stored"),
    [
        ("id", 12, "12"),
        ("account", -(2**63), str(-(2**63))),
        ("amount", "100.0", 100.0),
        ("amount", 7, 7.0),
        ("age", True, 1.0),
        ("mcc", 5411, "5411"),
        ("mcc", True, "true"),
        ("fraud", True, 1),
        ("when", 1_700_000_000, "2023-11-14T22:13:20+00:00"),
    ],
)
def test_values_of_json(column: str, sent: Any, stored: Any, tmp_path: Path) -> None:
    text = "\n".join(json.dumps({**GOOD, column: value}) for value in (sent, sent))
    rows = read(write_text(tmp_path / "r.jsonl", text.encode())).rows
    name = next((role for role, c in BANK.roles.items() if c == column), column)
    value = rows[0][name]
    assert (value.isoformat() if column == "when" else value) == stored
    # A neighbour that is sent as text does not change it.
    mixed = "\n".join([json.dumps({**GOOD, column: sent}), json.dumps(GOOD)])
    assert read(write_text(tmp_path / "m.jsonl", mixed.encode())).rows[0] == rows[0]


def test_the_same_table_is_the_same_in_every_format(tmp_path: Path) -> None:
    import numpy as np

    random = np.random.default_rng(7)
    count = 500
    values = {
        "id": [f"t{i}" for i in range(count)],
        "when": (1_700_000_000_000_000 + random.integers(0, 10**12, count)).astype("<M8[us]"),
        "account": random.integers(0, 50, count),
        "shop": [f"m{i % 7}" for i in range(count)],
        "amount": random.lognormal(3, 2, count),
        "currency": ["EUR", "USD"] * (count // 2),
        "fraud": random.integers(0, 2, count),
        "age": random.standard_normal(count) * 1e-8,
        "mcc": random.integers(1000, 9999, count),
        "risk": random.random(count) * 1e17,
        "channel": ["web", None] * (count // 2),
    }
    table = pa.table(values)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=120)
    pa.csv.write_csv(table, tmp_path / "t.csv")
    lines = (json.dumps(row, default=lambda t: t.isoformat()) for row in table.to_pylist())
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    expected = read(tmp_path / "t.parquet").transactions
    assert expected.num_rows == count
    for name in ("t.csv", "t.jsonl"):
        assert (
            read(tmp_path / name, block_rows=33)
            .transactions.combine_chunks()
            .equals(expected.combine_chunks())
        )


#: When a label was known, and a key that is neither role nor feature.
TIMED = replace(
    BANK,
    roles={**BANK.roles, "labelled_at": "seen"},
    velocity=(Velocity(("device",), ("1d",), ("risk",), delay="1d"),),
)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_scoring_takes_the_labels_that_are_known(kind: str, tmp_path: Path) -> None:
    rows = [
        {**GOOD, "id": "a", "fraud": "1", "seen": "2024-03-09", "device": "d1"},
        {**GOOD, "id": "b", "fraud": "1", "seen": "", "device": ""},
        {**GOOD, "id": "c", "fraud": "1", "seen": "soon", "device": "d2"},
        {**GOOD, "id": "d", "fraud": "", "seen": "", "device": "d2"},
        {**GOOD, "id": "e", "fraud": "maybe", "seen": "", "device": "d2"},
    ]
    path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        text = (
            csv_of(*rows, columns=tuple(rows[0]))
            if kind == "csv"
            else "\n".join(map(json.dumps, rows)).encode()
        )
        write_text(path, text)
    result = read(path, schema=TIMED, labels="known")
    assert not result.dead
    read_rows = result.transactions.to_pylist()
    assert [row["label"] for row in read_rows] == [1, 1, None, None, None]
    known = [row["labelled_at"] and str(row["labelled_at"].date()) for row in read_rows]
    assert known[:2] == ["2024-03-09", None]
    assert [row["device"] or None for row in read_rows] == ["d1", None, "d2", "d2", "d2"]
    required = read(path, schema=TIMED, labels="required")
    assert [letter["reason"] for letter in required.dead.values()] == [
        "unparseable_time",
        "invalid_label",
        "invalid_label",
    ]


def test_scoring_needs_no_labels_but_the_keys(tmp_path: Path) -> None:
    bare = {name: value for name, value in GOOD.items() if name != "fraud"}
    path = write_text(
        tmp_path / "rows.csv", csv_of({**bare, "device": "d"}, columns=(*bare, "device"))
    )
    (row,) = read(path, schema=TIMED, labels="known").transactions.to_pylist()
    assert (row["label"], row["labelled_at"], row["device"]) == (None, None, "d")
    with pytest.raises(FraudError, match="column 'device' of schema bank is not there"):
        read(write_text(tmp_path / "less.csv", csv_of(GOOD)), schema=TIMED, labels="known")


@pytest.mark.parametrize(
    ("ahead", "dead"), [(None, []), (0, [1, 2, 3]), (1_500_000, [2, 3]), (10**9, [3])]
)
def test_in_a_stream_an_event_may_be_no_later_than_allowed(
    ahead: int | None, dead: list[int]
) -> None:
    times = ["12:30:00Z", "12:30:01.5Z", "12:30:01.500001Z", "13:30:00Z"]
    lines = [json.dumps({**GOOD, "when": f"2024-02-29T{time}"}).encode() for time in times]
    described = pa.schema([("@position", pa.int64()), ("@payload", pa.binary())])
    arrived = int(datetime(2024, 2, 29, 12, 30, tzinfo=UTC).timestamp()) * 1000
    for appended, expected in ((arrived, dead), (None, [])):
        origin = Origin("payments:0", "jsonl", appended=appended)
        raw = pa.RecordBatch.from_arrays(
            [pa.array(range(len(lines)), pa.int64()), pa.array(lines)],
            schema=with_origin(described, origin),
        )
        parsed = parse(raw, BANK, labels="required")
        good, letters = validate(parsed, BANK, labels="required", ahead=ahead)
        assert letters["position"].to_pylist() == expected
        assert set(letters["reason"].to_pylist()) <= {"future_time"}
        assert good["@position"].to_pylist() == [i for i in range(4) if i not in expected]
    if not dead:
        assert good == validate(parsed, BANK, labels="required")[0]


def test_the_graph_bounds_event_times_by_the_option() -> None:
    late = json.dumps({**GOOD, "when": "2199-01-01"}).encode()
    described = pa.schema([("@position", pa.int64()), ("@payload", pa.binary())])
    raw = pa.RecordBatch.from_arrays(
        [pa.array([7], pa.int64()), pa.array([late])],
        schema=with_origin(described, Origin("payments:0", "jsonl", appended=0)),
    )
    with beam.Pipeline(LOCAL_RUNNER) as pipeline:
        checked = (
            pipeline
            | beam.Create([raw])
            | Parse(BANK, "required")
            | Validate(BANK, "required", ahead=60_000_000)
        )
        reasons = checked[DEAD] | beam.Map(lambda dead: dead["reason"].to_pylist())
        assert_that(reasons, equal_to([["future_time"]]))

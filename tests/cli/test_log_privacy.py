"""The log of a run, even at debug level, contains nothing of a record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.cli import main
from beam_fraud.records.parse import parse
from beam_fraud.records.validate import validate
from beam_fraud.sources.raw import PAYLOAD, POSITION, Origin, with_origin
from beam_fraud.sources.segment import CsvLayout
from tests.cli.test_commands_score import bundle
from tests.reading import BANK, COLUMNS, GOOD

#: In every record, and in nothing else.
SECRET = "4929-1337-secret"
ROLES = {"transaction_id": "id", "event_time": "t", "account_id": "acc", "amount": "a"}
_RAW = pa.schema([pa.field(POSITION, pa.int64()), pa.field(PAYLOAD, pa.binary())])


def record(**changed: Any) -> str:
    return json.dumps({"id": SECRET, "t": "2024-01-01", "acc": SECRET, "a": 7} | changed)


@pytest.mark.parametrize("dead_alone", [False, True])
def test_the_log_of_a_run_holds_no_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dead_alone: bool
) -> None:
    dead = [record(a=SECRET), record(t=SECRET), record(id=[SECRET]), f'{{"{SECRET}', SECRET]
    days = tmp_path / "days"
    days.mkdir()
    (days / "1.jsonl").write_text("\n".join([*dead] if dead_alone else [record(), *dead]))
    (days / "2.csv").write_text(f"id,t,acc,a\n{SECRET},{SECRET},{SECRET},1\n{SECRET},\n")
    log = tmp_path / "log"
    call = ["score", str(days), "--model", bundle(tmp_path / "model", ROLES)]
    call += ["--out", str(tmp_path / "out"), "--sink", f"sqlite:///{tmp_path}/f.db"]
    call += ["--alert", f"file:{tmp_path}/alerts.jsonl"]
    assert main([*call, "--log-level", "debug", "--log-file", str(log)]) == int(dead_alone)
    message = capsys.readouterr()
    assert log.stat().st_size
    assert SECRET not in log.read_text() + message.err + message.out
    # It was there to be told.
    assert dead_alone or SECRET in (tmp_path / "alerts.jsonl").read_text()


def details(payload: list[bytes], **origin: Any) -> str:
    arrays = [pa.array(range(len(payload)), pa.int64()), pa.array(payload, pa.binary())]
    raw = pa.RecordBatch.from_arrays(
        arrays, schema=with_origin(_RAW, Origin("source", **{"format": "jsonl"} | origin))
    )
    _, dead = validate(parse(raw, BANK, labels="required"), BANK, labels="required")
    return json.dumps(dead.column("detail").to_pylist())


_VALUES = st.sampled_from(
    [SECRET, [SECRET], {SECRET: SECRET}, f"{SECRET}\0", SECRET * 40, SECRET + "\ud800"]
)


@given(st.sampled_from(COLUMNS), _VALUES, st.integers(0, 80))
def test_a_detail_names_the_fault_without_the_value(column: str, value: Any, end: int) -> None:
    whole = json.dumps(GOOD | {column: value}).encode()
    assert SECRET not in details([whole, whole[: -1 - end], whole[end:], SECRET.encode()])


@given(st.sampled_from(COLUMNS), st.sampled_from(['"', "", "\xff", "\0", ",", "\n", '"\n']))
def test_a_detail_of_csv_holds_no_value_either(column: str, beside: str) -> None:
    row = [SECRET + beside if name == column else str(GOOD[name]) for name in COLUMNS]
    lines = [",".join(row).encode("latin-1") + b"\n", SECRET.encode() + b"\n"]
    assert SECRET not in details(lines, format="csv", csv=CsvLayout(COLUMNS, ",", 0))

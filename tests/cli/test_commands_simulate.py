"""The destination of `simulate`: a file or a topic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands.simulate import run
from beam_fraud.cli.options import SimulateOptions
from beam_fraud.errors import UsageError

BROKER = "127.0.0.1:9"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "give --out FILE or --kafka HOST:PORT --topic T"),
    ({"out": "a.csv", "kafka": BROKER, "topic": "t"}, "--out and --kafka: give one of them"),
    ({"kafka": BROKER}, "--topic: missing; name the topic to send to"),
    ({"out": "a.csv", "topic": "t"}, "--topic: for messages only; give --kafka HOST:PORT, too"),
    ({"out": "a.csv", "rate": 0.0}, "--rate: for messages only"),
    ({"kafka_config": ("a=b",)}, "--kafka-config: for messages only"),
    ({"kafka_properties": "f"}, "--kafka-properties: for messages only"),
    ({"kafka": BROKER, "topic": "t", "partition": "day"}, "--partition: for files only"),
    ({"out": "days.parquet", "partition": "day"}, "--out days.parquet: --partition day writes"),
    ({"kafka": BROKER, "topic": "t", "rate": 0.0}, "--rate 0: must be above 0, in messages"),
    ({"kafka": BROKER, "topic": "t", "rate": float("nan")}, "--rate nan: must be above 0"),
    ({"kafka": "no port", "topic": "t"}, "--kafka: brokers are written HOST:PORT"),
    ({"kafka": BROKER, "topic": "t", "kafka_config": ("a",)}, "--kafka-config: a property is"),
]


@pytest.mark.parametrize(("options", "line"), WRONG)
def test_an_invalid_call_is_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError) as wrong:
        run(SimulateOptions(**{"out": None, **options}))
    assert str(wrong.value).startswith(line)
    assert "\n" not in str(wrong.value)


def test_partitions_hold_the_rows_of_a_file_by_day(tmp_path: Path) -> None:
    small: dict[str, Any] = {"days": 5, "accounts": 20, "merchants": 40}
    out = tmp_path / "days"
    run(SimulateOptions(out=str(out), partition="day", **{**small, "days": 9}))
    result = run(SimulateOptions(out=str(out), partition="day", **small))
    assert result["partitions"] == 5
    # Another seed adds files; days of an earlier run with this seed are gone.
    run(SimulateOptions(out=str(out), partition="day", seed=1, **small))
    whole = run(SimulateOptions(out=str(tmp_path / "all.parquet"), **small))
    files = sorted(out.glob("*/seed-0.parquet"))
    assert [path.parent.name for path in files] == [f"date=2024-01-0{n}" for n in range(1, 6)]
    assert len(list(out.glob("*/seed-1.parquet"))) == 5
    rows = pa.concat_tables([pq.read_table(path, partitioning=None) for path in files])
    assert rows.equals(pq.read_table(tmp_path / "all.parquet"))
    assert result["transactions"] == whole["transactions"] == rows.num_rows
    for path in files:
        days = pq.read_table(path, partitioning=None)["TX_DATETIME"].cast(pa.date32())
        assert [str(day) for day in days.unique().to_pylist()] == [path.parent.name[5:]]
    run(SimulateOptions(out=str(out), partition="month", **small))
    assert len(list(out.glob("month=2024-01/seed-0.parquet"))) == 1

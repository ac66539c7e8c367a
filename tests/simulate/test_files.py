"""The command writes the same transactions in every format, completely or not at all."""

from __future__ import annotations

import gzip
import json
import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands.simulate import render, run
from beam_fraud.cli.options import SimulateOptions
from beam_fraud.errors import FraudError, UsageError
from beam_fraud.simulate import files
from beam_fraud.simulate.simulation import TRANSACTIONS, Simulation, simulate

SMALL = {"days": 20, "accounts": 100, "merchants": 200, "seed": 7}
TEXT = [kind + codec for kind in (".csv", ".jsonl", ".ndjson") for codec in ("", ".gz", ".zst")]


def write(path: Path) -> Path:
    run(SimulateOptions(out=str(path), **SMALL))
    return path


def text_of(path: Path) -> str:
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes()).decode()
    if path.suffix == ".zst":
        with pa.input_stream(str(path), compression="zstd") as stream:
            return stream.read().decode()
    return path.read_text()


def rows_of(path: Path) -> list[dict[str, object]]:
    """Read a file without the simulator's schema; times as text."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        rows = table.to_pylist()
        return [{**row, "TX_DATETIME": str(row["TX_DATETIME"])} for row in rows]
    text = text_of(path)
    if ".csv" not in path.suffixes:
        return [json.loads(line) for line in text.splitlines()]
    options = pyarrow.csv.ConvertOptions(column_types={"TX_DATETIME": pa.string()})
    table = pyarrow.csv.read_csv(pa.BufferReader(text.encode()), convert_options=options)
    return table.to_pylist()


@pytest.mark.parametrize("suffix", TEXT)
def test_every_format_holds_the_same_rows(tmp_path, suffix):
    expected = rows_of(write(tmp_path / "a.parquet"))
    result = rows_of(write(tmp_path / f"a{suffix}"))
    if "csv" not in suffix:
        assert all(row["TX_DATETIME"].endswith("Z") for row in result)
        for row in result:
            row["TX_DATETIME"] = row["TX_DATETIME"].replace("T", " ").removesuffix("Z")
    assert result == expected
    assert len(result) > 2000


def test_text_is_as_documented(tmp_path):
    csv = text_of(write(tmp_path / "a.csv")).splitlines()
    first = json.loads(text_of(write(tmp_path / "a.jsonl")).splitlines()[0])
    assert csv[0] == ",".join(TRANSACTIONS.names)
    when = first["TX_DATETIME"].replace("T", " ").removesuffix("Z")
    amount = f"{first['TX_AMOUNT']:.2f}"
    others = (first["CUSTOMER_ID"], first["TERMINAL_ID"])
    assert csv[1] == f"7000000000,{when},{others[0]},{others[1]},{amount},0,0"
    assert list(first) == TRANSACTIONS.names


def test_blocks_of_text_join_seamlessly(tmp_path, monkeypatch):
    whole = write(tmp_path / "a.jsonl").read_bytes()
    monkeypatch.setattr(files, "BLOCK_ROWS", 77)
    assert write(tmp_path / "b.jsonl").read_bytes() == whole


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".csv.gz", ".jsonl.zst"])
def test_the_same_options_give_the_same_bytes(tmp_path, suffix):
    first, second = write(tmp_path / f"a{suffix}"), write(tmp_path / f"b{suffix}")
    assert first.read_bytes() == second.read_bytes()


def test_parquet_is_what_simulate_returns_in_zstd(tmp_path):
    path = write(tmp_path / "a.parquet")
    assert pq.read_table(path).equals(simulate(Simulation(**SMALL)))
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_the_result_counts_what_is_in_the_file(tmp_path):
    out = str(tmp_path / "new" / "folder" / "a.jsonl")
    result = run(SimulateOptions(out=out, **SMALL, fraud_rate=0.05))
    rows = rows_of(Path(out))
    frauds = [row for row in rows if row["TX_FRAUD"]]
    assert result["out"] == out
    assert (result["transactions"], result["frauds"]) == (len(rows), len(frauds))
    assert result["fraud_rate"] == pytest.approx(0.05, rel=0.25)
    assert result["scenarios"] == {
        str(kind): sum(row["TX_FRAUD_SCENARIO"] == kind for row in rows) for kind in (1, 2, 3)
    }
    assert json.loads(json.dumps(result)) == result
    message = render(result)
    assert f"{len(rows):,} transactions" in message
    assert out in message


def test_one_of_a_kind_is_not_said_in_the_plural(tmp_path):
    message = render(
        run(SimulateOptions(out=str(tmp_path / "a.csv"), days=1, accounts=1, merchants=1))
    )
    assert " of 1 account at 1 merchant over 1 day in " in message


@pytest.mark.parametrize(
    "name", ["a", "a.txt", "a.parquet.gz", "a.gz", "a.csv.bz2", ".parquet", "a.csv.d.zst"]
)
def test_an_unknown_suffix_is_a_wrong_call_that_lists_the_known(tmp_path, name):
    with pytest.raises(UsageError, match=r"\.parquet or \.csv or \.jsonl or \.ndjson \("):
        run(SimulateOptions(out=str(tmp_path / name)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("start", ["yesterday", "2024-13-01", ""])
def test_a_start_that_is_no_day_is_a_wrong_call(tmp_path, start):
    with pytest.raises(UsageError, match="--start"):
        run(SimulateOptions(out=str(tmp_path / "a.csv"), start=start))


def test_a_failure_leaves_only_the_earlier_file(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv")
    before = path.read_bytes()

    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr("beam_fraud.simulate.files.csv_lines", fail)
    with pytest.raises(RuntimeError):
        write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_costs_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FraudError, match=r"cannot write .*a\.csv") as failure:
        write(tmp_path / "file" / "a.csv")
    assert "\n" not in str(failure.value)
    assert failure.value.exit_code == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_permission_costs_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FraudError, match="Permission denied"):
        write(tmp_path / "a.csv")


def test_a_folder_or_a_url_is_a_wrong_call(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        write(tmp_path / "a.csv")
    with pytest.raises(UsageError, match="not a local file"):
        run(SimulateOptions(out="gs://bucket/a.csv", **SMALL))


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_writing_a_million_rows_takes_seconds(tmp_path, suffix):
    began = time.perf_counter()
    result = run(SimulateOptions(out=str(tmp_path / f"a{suffix}"), accounts=5700))
    assert result["transactions"] > 1_000_000
    assert time.perf_counter() - began < 20

"""Keys in the names of directories are columns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import replay, score
from beam_fraud.cli.options import ReplayOptions, ScoreOptions
from beam_fraud.errors import Code
from beam_fraud.schema.schema import FeatureColumn
from beam_fraud.sources.file_format import COLUMNAR
from beam_fraud.sources.source import find_inputs
from beam_fraud.storage.urls import Place
from tests.cli.test_commands_score import bundle
from tests.failing import fails
from tests.reading import BANK, COLUMNS, GOOD, csv_of, read, write_columns, write_text

#: `BANK` with two columns in the names of directories.
BY_DAY = replace(
    BANK,
    roles=BANK.roles | {"event_time": "day"},
    features=(
        FeatureColumn("age"),
        FeatureColumn("country", "categorical", "allow"),
        FeatureColumn("level", "numeric", "allow"),
    ),
)
FORMS = [*COLUMNAR, "csv", "jsonl"]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        return write_text(path, csv_of(*rows, columns=tuple(rows[0])))
    if path.suffix == ".jsonl":
        return write_text(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
    return write_columns(path, pa.Table.from_pylist(rows))


PLAIN = {name: GOOD[name] for name in COLUMNS if name != "when"}


@pytest.mark.parametrize("form", FORMS)
def test_directories_are_columns(tmp_path: Path, form: str) -> None:
    rows = [{**PLAIN, "id": f"t{n}"} for n in range(3)]
    write(tmp_path / f"country=C%C3%B4te%2FN/level=12.5/day=2024-02-08/a.{form}", rows)
    absent = "__HIVE_DEFAULT_PARTITION__"
    write(tmp_path / f"country={absent}/level=high/day=2024-02-09/a.{form}", rows[:1])
    result = read(tmp_path, BY_DAY, bytes_each=1)
    found = [
        (str(row["event_time"].date()), row["country"], row["level"])
        for row in result.rows.values()
    ]
    assert found[-1] == ("2024-02-08", "Côte/N", 12.5)
    assert result.rows_in == 4
    # A key that is no number is the fault of its rows.
    [letter] = result.dead_letters.to_pylist()
    assert (letter["reason"], letter["position"]) == ("wrong_type", 0)
    assert letter["source"] == f"country={absent}/level=high/day=2024-02-09/a.{form}"
    write(tmp_path / f"country={absent}/level={absent}/day=2024-02-09/a.{form}", rows[:1])
    only = read(f"{tmp_path}/country=*/level={absent}/day=*/a.{form}", BY_DAY)
    assert [(row["country"], repr(row["level"])) for row in only.rows.values()] == [(None, "nan")]


@pytest.mark.parametrize("form", FORMS)
def test_a_column_of_the_file_must_not_contradict_its_directory(tmp_path: Path, form: str) -> None:
    same = {**PLAIN, "day": "2024-02-08T23:59:00", "country": "Own", "level": 2.0}
    others = ({"day": "2024-02-09"}, {"country": "b"}, {"level": 1.5})
    rows = [same, *(same | other for other in others)]
    path = write(tmp_path / f"country=own/level=2/day=2024-02-08/a.{form}", rows)
    result = read(path.parents[3], BY_DAY)
    [row] = result.rows.values()
    assert (str(row["event_time"].date()), row["country"], row["level"]) == ("2024-02-08", "Own", 2)
    assert [(d["position"], d["reason"]) for d in result.dead_letters.to_pylist()] == [
        (position, "contradicts_directory") for position in (1, 2, 3)
    ]
    assert [
        column in detail
        for column, detail in zip(
            ("day", "country", "level"), result.dead_letters["detail"].to_pylist(), strict=True
        )
    ] == [True] * 3


def test_values_of_other_types_are_compared_by_what_they_say(tmp_path: Path) -> None:
    rows = pa.table(
        {name: [value] * 2 for name, value in PLAIN.items()}
        | {"day": pa.array([1707350400, 1707436800]), "country": pa.array([7, 7])}
    )
    write_columns(_made(tmp_path / "country=07/level=x/day=2024-02-08/a.parquet"), rows)
    result = read(tmp_path, BY_DAY)
    # The level is the directory's, which is no number.
    assert [d["reason"] for d in result.dead_letters.to_pylist()] == ["wrong_type"] * 2
    write_columns(_made(tmp_path / "b/c/country=07/level=1/day=2024-02-08/a.parquet"), rows)
    result = read(tmp_path / "b", BY_DAY)
    assert [(d["position"], d["reason"]) for d in result.dead_letters.to_pylist()] == [
        (1, "contradicts_directory")
    ]


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    return path


def test_records_of_json_that_lack_a_member_have_the_directory_s(tmp_path: Path) -> None:
    rows = [{**PLAIN, "level": 7}, PLAIN, {**PLAIN, "country": "there"}]
    write(tmp_path / "day=2024-02-08/level=7/country=there/a.jsonl", rows)
    result = read(tmp_path, BY_DAY)
    assert [(row["country"], row["level"]) for row in result.rows.values()] == [("there", 7.0)] * 3


def test_a_file_of_columns_named_itself_has_all_its_directories(tmp_path: Path) -> None:
    path = write(tmp_path / "day=2024-02-08/country=x/a.parquet", [PLAIN])
    [row] = read(path, BY_DAY).rows.values()
    assert (row["country"], str(row["event_time"].date())) == ("x", "2024-02-08")
    # Of text, a replay would not know them.
    path = write(tmp_path / "day=2024-02-08/country=x/a.csv", [PLAIN])
    with fails(Code.COLUMN_MISSING, "a.csv: column 'day'.*the directory above"):
        find_inputs([Place.of(path)], BY_DAY, labels="required")


def test_a_key_that_the_schema_does_not_name_is_none(tmp_path: Path) -> None:
    write(tmp_path / "run=5/a.parquet", [GOOD])
    [file] = find_inputs([Place.of(tmp_path)], BANK, labels="required")
    assert file.partitions == ()


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_a_replay_has_the_directories(tmp_path: Path, form: str) -> None:
    rows = [{"id": "x1", "a": "1"}, {"id": "x2", "a": "ten"}]
    write(tmp_path / f"days/t=2024-02-08/a.{form}", rows)
    options = {"model": bundle(tmp_path / "model")}
    out = str(tmp_path / "out")
    score.run(ScoreOptions(files=(str(tmp_path / "days"),), out=out, **options))
    [letter] = pq.read_table(tmp_path / "out/dead_letters").to_pylist()
    repaired = tmp_path / "repaired.jsonl"
    payload = letter["payload"].decode().replace("ten", "10")
    line = {"source": letter["source"], "position": letter["position"], "payload": payload}
    repaired.write_text(json.dumps(line) + "\n")
    again = str(tmp_path / "again")
    replay.run(
        ReplayOptions(out=out, results=again, repaired=str(repaired), beam_args=(), **options)
    )
    [row] = pq.read_table(tmp_path / "again/scores").to_pylist()
    assert (row["amount"], str(row["event_time"].date())) == (10.0, "2024-02-08")

"""Delta tables: just the rows of their newest version, whatever lies in the directory."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import deltalake
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyroaring import BitMap

from beam_fraud.cli.commands import score
from beam_fraud.cli.options import ScoreOptions
from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.schema import FeatureColumn
from beam_fraud.sources import source
from beam_fraud.sources.source import find_inputs, input_paths, limit_files, read_segment
from beam_fraud.sources.watch.source import WatchSource
from beam_fraud.storage.urls import Place
from tests.cli.test_commands_score import bundle
from tests.failing import fails
from tests.object_store import KeptObjects
from tests.reading import BANK, COLUMNS, GOOD, Read, read

#: `BANK` with columns that only later files or directories have.
GROWN = replace(
    BANK,
    roles=BANK.roles | {"event_time": "day"},
    features=(
        FeatureColumn("age"),
        FeatureColumn("channel", "categorical", "allow"),
        FeatureColumn("risk", "numeric", "allow"),
    ),
)


def rows(*ids: str, day: str | None = "2024-02-08", **more: Any) -> pa.Table:
    plain = {name: GOOD[name] for name in COLUMNS if name not in ("when", "channel", "risk")}
    found = [{**plain, "day": day, "id": id, **more} for id in ids]
    return pa.Table.from_pylist(found, pa.schema(dict.fromkeys(found[0], pa.string())))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table by days, two of whose files are removed and whose columns have grown."""
    path = tmp_path / "table"
    write = deltalake.write_deltalake
    write(path, rows("a", "b"), partition_by=["day"])
    write(path, rows("x", "y", day="2024-02-09"), mode="append")
    deltalake.DeltaTable(path).delete("day = '2024-02-09'")
    write(path, rows("c", "d", "x", day="2024-02-10"), mode="append")
    deltalake.DeltaTable(path).delete("id = 'x'")
    write(path, rows("e", day="2024-02-11", channel="web"), mode="append", schema_mode="merge")
    write(path, rows("f", day=None, channel="web"), mode="append")
    return path


def ids(result: Read) -> list[str]:
    return sorted(result.transactions["transaction_id"].to_pylist())


def test_the_rows_of_the_newest_version_are_read(
    table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(list(table.glob("*/*.parquet"))) > 5
    with caplog.at_level(logging.INFO):
        result = read(table, GROWN, bytes_each=1)
    assert (ids(result), result.rows_in) == (["a", "b", "c", "d", "e"], 6)
    assert "Delta table, version 6, 4 files" in caplog.text
    found = {row["transaction_id"]: row for row in result.transactions.to_pylist()}
    assert str(found["d"]["event_time"].date()) == "2024-02-10"
    assert (found["e"]["channel"], found["a"]["channel"]) == ("web", None)
    [letter] = result.dead_letters.to_pylist()
    assert (letter["reason"], letter["position"]) == ("missing_time", 0)
    assert letter["source"].startswith("day=__HIVE_DEFAULT_PARTITION__/part-")
    assert input_paths([Place.of(table)]) == [str(table)]


def test_score_of_a_table(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roles = {"transaction_id": "id", "event_time": "day", "amount": "amount"}
    options = ScoreOptions(
        files=(str(table),), model=bundle(tmp_path / "model", roles), out=str(tmp_path / "out")
    )
    summary = score.run(options)
    counted = {name: summary[f"rows_{name}"] for name in ("in", "scored", "dead", "duplicate")}
    assert counted == {"in": 6, "scored": 5, "dead": 1, "duplicate": 0}
    [letter] = pq.read_table(tmp_path / "out/dead_letters").to_pylist()
    assert (table / letter["source"]).exists()
    assert json.loads(letter["payload"])["day"] is None


def test_a_table_is_not_watched(table: Path) -> None:
    for place in (table, table / "day=2024-02-08"):
        with fails(Code.INPUT_FORMAT, f"{table}: is a Delta table"):
            WatchSource(str(place), GROWN, "required").check()


def test_a_table_behind_a_url_is_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeptObjects, "root", tmp_path, raising=False)
    for name in ("_delta_log/00000000000000000000.json", "part-0.parquet"):
        with KeptObjects(None).create(f"kept://bucket/lake/table/{name}") as file:
            file.write(b"{}")
    # The library has no such file system.
    with fails(Code.INPUT_DAMAGED, "kept://bucket/lake/table: is a Delta table that"):
        find_inputs([Place.parse("kept://bucket/lake/table")], BANK, labels="required")
    with fails(Code.INPUT_FORMAT, "kept://bucket/lake/table: is a Delta table"):
        find_inputs([Place.parse("kept://bucket/lake")], BANK, labels="required")


def test_a_column_that_no_version_has_is_refused(table: Path) -> None:
    with fails(Code.COLUMN_MISSING, "column 'when'"):
        find_inputs([Place.of(table)], BANK, labels="required")


def test_files_of_a_table_are_not_read_as_files(table: Path) -> None:
    for place in (table.parent, table / "day=2024-02-08", f"{table}/*/*.parquet"):
        with fails(Code.INPUT_FORMAT, f"{table}: is a Delta table"):
            find_inputs([Place.of(place)], GROWN, labels="required")


def test_a_table_that_cannot_be_read_is_refused(table: Path) -> None:
    log = table / "_delta_log" / "00000000000000000003.json"
    text = log.read_text()
    log.write_text(text[: len(text) // 2])
    with pytest.raises(FraudError, match="is a Delta table that cannot be read") as refused:
        find_inputs([Place.of(table)], GROWN, labels="required")
    assert "\n" not in str(refused.value)


def test_a_lost_file_is_refused(table: Path) -> None:
    for path in table.glob("day=2024-02-11/*.parquet"):
        path.unlink()
    with fails(Code.INPUT_UNREADABLE, "day=2024-02-11/part"):
        find_inputs([Place.of(table)], GROWN, labels="required")


def test_without_the_library_the_extra_is_named(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "deltalake", None)
    with fails(Code.EXTRA_MISSING, r"table: is a Delta table.*beam-fraud\[delta\]"):
        find_inputs([Place.of(table)], GROWN, labels="required")


def test_an_empty_table_is_refused(table: Path) -> None:
    deltalake.DeltaTable(table).delete()
    with fails(Code.INPUT_EMPTY, "table: "):
        find_inputs([Place.of(table)], GROWN, labels="required")


def with_features(path: Path, *features: str, **configuration: str) -> None:
    """Declare features of a reader in the first version of a table."""
    log = path / "_delta_log" / "00000000000000000000.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "protocol" in action:
            named = {"readerFeatures": features, "writerFeatures": features}
            action["protocol"] = {"minReaderVersion": 3, "minWriterVersion": 7, **named}
        if "metaData" in action:
            action["metaData"]["configuration"] |= configuration
    log.write_text("".join(json.dumps(action) + "\n" for action in actions))


def deletion_vector(deleted: list[int]) -> dict[str, Any]:
    """Return a deletion vector that is stored in the log."""
    bitmaps = (1).to_bytes(8, "little") + (0).to_bytes(4, "little") + BitMap(deleted).serialize()
    data = (1681511377).to_bytes(4, "little") + bitmaps
    padded = data + bytes(-len(data) % 4)
    ours = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
    theirs = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    text = base64.b85encode(padded).decode().translate(str.maketrans(ours, theirs))
    size = len(data)
    return {
        "storageType": "i",
        "pathOrInlineDv": text,
        "sizeInBytes": size,
        "cardinality": len(deleted),
    }


@pytest.mark.parametrize("block_rows", [7, 50_000])
@pytest.mark.parametrize("bytes_each", [None, 1])
def test_deleted_rows_are_left_out(tmp_path: Path, block_rows: int, bytes_each: int | None) -> None:
    path = tmp_path / "table"
    deltalake.write_deltalake(path, pa.Table.from_pylist([GOOD]))
    with_features(path, "deletionVectors")
    pq.write_table(
        pa.Table.from_pylist([{**GOOD, "id": f"t{n:03}"} for n in range(100)]),
        path / "more.parquet",
        row_group_size=30,
    )
    deleted = [*range(3), 29, 30, *range(40, 55), 97]
    add = {
        "path": "more.parquet",
        "partitionValues": {},
        "size": (path / "more.parquet").stat().st_size,
        "modificationTime": 1,
        "dataChange": True,
        "stats": json.dumps({"numRecords": 100}),
        "deletionVector": deletion_vector(deleted),
    }
    log = path / "_delta_log" / "00000000000000000001.json"
    log.write_text(json.dumps({"commitInfo": {"timestamp": 1}}) + "\n" + json.dumps({"add": add}))
    result = read(path, block_rows=block_rows, bytes_each=bytes_each)
    left = np.setdiff1d(np.arange(100), deleted)
    assert ids(result) == sorted(["t1", *(f"t{n:03}" for n in left)])
    found = {row["transaction_id"]: row["@position"] for row in result.transactions.to_pylist()}
    assert (found["t028"], found["t031"]) == (28, 31)
    files = find_inputs([Place.of(path)], BANK, labels="required")
    counted = sum(
        len(batch)
        for segment in limit_files(files, 1_000)
        for batch in read_segment(segment, BANK, 50_000, labels="required")
    )
    assert counted == len(left) + 1


@pytest.mark.parametrize(
    ("features", "configuration"),
    [(("variantType",), {}), ((), {"delta.columnMapping.mode": "name"})],
)
def test_features_that_are_not_read_are_refused(
    tmp_path: Path, features: tuple[str, ...], configuration: dict[str, str]
) -> None:
    path = tmp_path / "table"
    deltalake.write_deltalake(path, pa.Table.from_pylist([GOOD]))
    with_features(path, *features, **configuration)
    with fails(Code.INPUT_FORMAT, "table: is a Delta table with"):
        find_inputs([Place.of(path)], BANK, labels="required")


def test_a_plain_directory_is_no_table(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([GOOD]), tmp_path / "a.parquet")
    assert source.kind_of(Place.of(tmp_path)) is None
    assert read(tmp_path).rows_in == 1

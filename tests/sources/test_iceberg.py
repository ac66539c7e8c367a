"""Iceberg tables: just the rows of their current snapshot, by the ids of columns."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import DataScan, FileScanTask
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import StringType

from beam_fraud.errors import Code
from beam_fraud.schema.schema import FeatureColumn
from beam_fraud.sources.source import find_inputs
from beam_fraud.storage.urls import Place
from tests.failing import fails
from tests.reading import BANK, COLUMNS, GOOD, Read, read

#: `BANK` with a column that was renamed, and one that was added.
GROWN = replace(
    BANK,
    roles=BANK.roles | {"amount": "value"},
    features=(
        FeatureColumn("age"),
        FeatureColumn("channel", "categorical", "allow"),
        FeatureColumn("risk", "numeric", "allow"),
    ),
)


def rows(*ids: str, **more: Any) -> pa.Table:
    plain = {name: GOOD[name] for name in COLUMNS if name not in ("channel",)}
    found = [{**plain, "id": id, **more} for id in ids]
    return pa.Table.from_pylist(found, pa.schema(dict.fromkeys(found[0], pa.string())))


@pytest.fixture
def catalog(tmp_path: Path) -> InMemoryCatalog:
    catalog = InMemoryCatalog("here", warehouse=f"file://{tmp_path}/warehouse")
    catalog.create_namespace("shop")
    return catalog


@pytest.fixture
def table(catalog: InMemoryCatalog, tmp_path: Path) -> Path:
    """A table with removed rows whose columns have changed."""
    made = catalog.create_table("shop.rows", rows("a").schema)
    made.append(rows("a", "b"))
    made.append(rows("x", "y"))
    made.delete("id == 'x'")
    made.delete("id == 'y'")
    with made.update_schema() as changed:
        changed.rename_column("amount", "value")
        changed.add_column("channel", StringType())
        changed.delete_column("risk")
    with made.update_schema() as changed:
        # Another column than the one before.
        changed.add_column("risk", StringType())
    last = rows("c", channel="web", value="99", risk="0.5").drop_columns(["amount"])
    catalog.load_table("shop.rows").append(last)
    return tmp_path / "warehouse" / "shop" / "rows"


def ids(result: Read) -> list[str]:
    return sorted(result.transactions["transaction_id"].to_pylist())


def test_the_rows_of_the_current_snapshot_are_read(
    table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        result = read(table, GROWN, bytes_each=1)
    assert (ids(result), result.rows_in) == (["a", "b", "c"], 3)
    assert "Iceberg table, snapshot " in caplog.text
    found = {row["transaction_id"]: row for row in result.transactions.to_pylist()}
    assert (found["a"]["amount"], found["c"]["amount"]) == (12.5, 99.0)
    assert (found["a"]["channel"], found["c"]["channel"]) == (None, "web")
    assert (repr(found["a"]["risk"]), found["c"]["risk"]) == ("nan", 0.5)


def test_metadata_named_itself_is_its_version(table: Path) -> None:
    [first] = table.glob("metadata/00001-*.metadata.json")
    assert ids(read(first, BANK)) == ["a", "b"]


def test_two_newest_versions_are_refused(table: Path) -> None:
    newest = max(table.glob("metadata/*.metadata.json"))
    other = newest.with_name(newest.name[:6] + "other.metadata.json")
    other.write_bytes(newest.read_bytes())
    with fails(Code.INPUT_FORMAT, "rows: is an Iceberg table with 2 files"):
        find_inputs([Place.of(table)], GROWN, labels="required")
    assert ids(read(other, GROWN)) == ["a", "b", "c"]


def test_files_of_a_table_are_not_read_as_files(table: Path) -> None:
    for place in (table.parent, table / "data", f"{table}/data/*.parquet", table / "metadata"):
        with fails(Code.INPUT_FORMAT, f"{table}: is an? Iceberg table"):
            find_inputs([Place.of(place)], GROWN, labels="required")


def test_a_table_that_cannot_be_read_is_refused(table: Path) -> None:
    for path in table.glob("metadata/snap-*.avro"):
        path.write_bytes(path.read_bytes()[:100])
    with fails(Code.INPUT_DAMAGED, "rows: is an Iceberg table that cannot be read"):
        find_inputs([Place.of(table)], GROWN, labels="required")


def test_without_the_library_the_extra_is_named(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyiceberg"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyiceberg", None)
    with fails(Code.EXTRA_MISSING, r"rows: is an Iceberg table.*beam-fraud\[iceberg\]"):
        find_inputs([Place.of(table)], GROWN, labels="required")


def test_partitions_of_a_table(catalog: InMemoryCatalog, tmp_path: Path) -> None:
    schema = rows("a").schema
    made = catalog.create_table("shop.parted", schema)
    with made.update_spec() as changed:
        changed.add_field("account", IdentityTransform(), "by_account")
    made.append(pa.concat_tables([rows("a", account="a1"), rows("b", account="a2")]))
    result = read(tmp_path / "warehouse/shop/parted")
    assert sorted(result.transactions["account_id"].to_pylist()) == ["a1", "a2"]


def test_a_default_of_an_added_column_is_refused(table: Path) -> None:
    newest = max(table.glob("metadata/*.metadata.json"))
    metadata = json.loads(newest.read_text())
    for schema in metadata["schemas"]:
        for field in schema["fields"]:
            if field["name"] == "channel":
                field["initial-default"] = "web"
    newest.write_text(json.dumps(metadata))
    with fails(Code.INPUT_FORMAT, "rows: is an Iceberg table with a default.*'channel'"):
        find_inputs([Place.of(table)], GROWN, labels="required")


def delete_file(path: Path, data: str, positions: list[int], content: DataFileContent) -> Any:
    there = pa.table(
        {"file_path": [data, "other"] * len(positions), "pos": np.repeat(positions, 2)}
    )
    pq.write_table(there, path)
    return DataFile.from_args(
        content=content,
        file_path=f"file://{path}",
        file_format=FileFormat.PARQUET,
        record_count=len(there),
        file_size_in_bytes=path.stat().st_size,
    )


@pytest.mark.parametrize("content", list(DataFileContent)[1:])
def test_deleted_rows_are_left_out_or_the_table_is_refused(
    catalog: InMemoryCatalog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: DataFileContent,
) -> None:
    made = catalog.create_table("shop.marked", rows("a").schema)
    made.append(rows(*(f"t{n}" for n in range(8))))
    plan = DataScan.plan_files

    def planned(scan: DataScan) -> list[FileScanTask]:
        tasks = list(plan(scan))
        for task in tasks:
            path = tmp_path / "gone.parquet"
            deletes = delete_file(path, task.file.file_path, [1, 5], content)
            monkeypatch.setattr(task, "delete_files", {deletes})
        return tasks

    monkeypatch.setattr(DataScan, "plan_files", planned)
    place = tmp_path / "warehouse/shop/marked"
    if content is DataFileContent.POSITION_DELETES:
        result = read(place)
        assert ids(result) == ["t0", "t2", "t3", "t4", "t6", "t7"]
        assert sorted(result.rows) == [0, 2, 3, 4, 6, 7]
    else:
        with fails(Code.INPUT_FORMAT, "marked: is an Iceberg table with deleted rows"):
            find_inputs([Place.of(place)], BANK, labels="required")

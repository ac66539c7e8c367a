"""Archives are cut into partitions of time, and pruned without losing a row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.errors import Code
from beam_fraud.pipeline.rescore.cut import cut_rows
from beam_fraud.schema.schema import Schema
from beam_fraud.sources.archive import UNDATED, ArchivePartition, archive_partitions
from beam_fraud.storage.urls import Place
from tests.failing import fails

SCHEMA = Schema("plain", {"transaction_id": "id", "event_time": "t", "amount": "a"})


def write(path: Path, times: Sequence[str], first: int = 0, **others: Any) -> Path:
    """Write transactions of these times with the ids `first`, `first` + 1, ..."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"id": str(first + n), "t": time, "a": "1", **others} for n, time in enumerate(times)]
    if path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        path.write_text("".join(f"{line}\n" for line in lines))
    else:
        moments = pa.array([datetime.fromisoformat(f"{time}Z") for time in times])
        table = pa.Table.from_pylist(rows)
        pq.write_table(table.set_column(1, "t", moments), path)
    return path


def partitions(*paths: Path, **options: Any) -> dict[str, list[str]]:
    """Return the names of partitions, and of the files of each."""
    found = archive_partitions([Place.of(path) for path in paths], SCHEMA, **options)
    return {one.name: [file.name for file in one.files] for one in found}


def day(number: int, hour: int = 0) -> datetime:
    return datetime(2026, 1, number, hour, tzinfo=UTC)


def test_directories_of_times_are_the_partitions(tmp_path: Path) -> None:
    for number in (10, 9):
        write(tmp_path / f"date=2026-01-{number:02d}/b.csv", [f"2026-01-{number:02d}T05:00"])
        write(tmp_path / f"date=2026-01-{number:02d}/country=NG/a.csv", ["2026-01-01"])
    assert partitions(tmp_path) == {
        f"date=2026-01-{n}": [f"date=2026-01-{n}/b.csv", f"date=2026-01-{n}/country=NG/a.csv"]
        for n in ("09", "10")
    }
    # Named one by one, as a shell expands a pattern, they are the same partitions.
    assert list(partitions(*sorted(tmp_path.iterdir()))) == ["date=2026-01-09", "date=2026-01-10"]
    [month] = archive_partitions([Place.of(tmp_path)], SCHEMA, cut="month")
    assert (month.name, len(month.files), month.cut) == ("2026-01", 4, False)


def test_nested_directories_are_one_partition_each(tmp_path: Path) -> None:
    for month in (2, 12):
        write(tmp_path / f"year=2025/month={month}/a.parquet", [f"2025-{month:02d}-28T00:00"])
    first, last = archive_partitions([Place.of(tmp_path)], SCHEMA)
    assert [first.name, last.name] == ["year=2025,month=2", "year=2025,month=12"]
    assert last.columns == (("year", "2025"), ("month", "12"))
    assert last.end == datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1e6
    [one] = first.inputs(SCHEMA, labels="ignored")
    assert one.rows == 1


def test_files_without_directories_of_times_are_cut_by_event_time(tmp_path: Path) -> None:
    write(tmp_path / "country=NG/a.csv", ["2026-01-02T23:59:59", "2026-01-01T01:00", "2026-02-01"])
    write(tmp_path / "b.parquet", ["2026-01-02T03:00", "2026-01-02T04:00"])
    assert partitions(tmp_path) == {
        "2026-01-01": ["country=NG/a.csv"],
        "2026-01-02": ["b.parquet", "country=NG/a.csv"],
        "2026-02-01": ["country=NG/a.csv"],
    }
    month = {"2026-01": ["country=NG/a.csv", "b.parquet"], "2026-02": ["country=NG/a.csv"]}
    assert {name: sorted(files) for name, files in partitions(tmp_path, cut="month").items()} == {
        name: sorted(files) for name, files in month.items()
    }
    assert list(partitions(tmp_path, until=day(2))) == ["2026-01-01"]
    # Periods that are known are not read again.
    known = {str(tmp_path / "country=NG/a.csv"): ("2026-01-05",)}
    found = partitions(tmp_path, remembered=lambda file: known.get(file.path))
    assert list(found) == ["2026-01-02", "2026-01-05"]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_directories_outside_the_period_are_left_out(tmp_path: Path, form: str) -> None:
    for number in range(1, 8):
        write(tmp_path / f"dt=2026010{number}/a.{form}", [f"2026-01-0{number}T12:00"])
    kept = partitions(tmp_path, since=day(3), until=day(5))
    assert list(kept) == ["dt=20260103", "dt=20260104"]
    # Within a day, only statistics tell.
    within = list(partitions(tmp_path, since=day(3, 11), until=day(4, 1)))
    assert within == (["dt=20260103", "dt=20260104"] if form == "csv" else ["dt=20260103"])


def test_statistics_keep_rows_whose_directory_is_of_another_zone(tmp_path: Path) -> None:
    write(tmp_path / "date=2026-01-02/a.parquet", ["2026-01-02T12:00", "2026-01-03T02:00"])
    write(tmp_path / "date=2026-01-03/a.parquet", ["2026-01-03T12:00", "2026-01-04T02:00"])
    assert list(partitions(tmp_path, since=day(3))) == ["date=2026-01-02", "date=2026-01-03"]
    assert list(partitions(tmp_path, since=day(3, 3))) == ["date=2026-01-03"]


def test_an_empty_period_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "date=2026-01-02/a.csv", ["2026-01-02"])
    with fails(Code.INPUT_EMPTY, str(tmp_path)):
        partitions(tmp_path, since=day(20))


def test_a_damaged_file_does_not_hide_the_others(tmp_path: Path) -> None:
    write(tmp_path / "date=2026-01-02/a.parquet", ["2026-01-02T12:00"])
    (tmp_path / "date=2026-01-02/b.parquet").write_bytes(b"PAR1 no more")
    write(tmp_path / "date=2026-01-03/a.parquet", ["2026-01-03T12:00"])
    bad, good = archive_partitions([Place.of(tmp_path)], SCHEMA, since=day(1))
    assert len(good.inputs(SCHEMA, labels="ignored")) == 1
    with fails(Code.INPUT_DAMAGED, "b.parquet"):
        bad.inputs(SCHEMA, labels="ignored")


def cut(tmp_path: Path, found: Sequence[ArchivePartition], **options: Any) -> dict[str, list[int]]:
    """Cut an archive into days; return ids, dead letters and duplicates of each."""
    rows = cut_rows(
        found, SCHEMA, labels="ignored", cut="day", path=tmp_path / "rows.arrow", **options
    )
    counts = {}
    for partition in found:
        blocks = list(rows.blocks(partition.name))
        ids = [one for b in blocks for one in b.transactions["transaction_id"].to_pylist()]
        dead = sum(len(b.dead_letters) for b in blocks)
        counts[partition.name] = [*map(int, ids), -dead, -sum(b.duplicates for b in blocks)]
        error = rows.error_of(partition)
        if error is not None:
            counts[partition.name] = [error.code]
    return counts


def test_rows_are_cut_in_the_order_of_their_files(tmp_path: Path) -> None:
    times = ["2026-01-02", "2026-01-01", "2026-01-02", "never", "2026-01-01"]
    a = write(tmp_path / "in/a.csv", times)
    a.write_text(a.read_text() + "0,2026-01-02,1\n")
    write(tmp_path / "in/b.parquet", ["2026-01-02T03:00", "2026-01-01T04:00"], first=10)
    found = archive_partitions([Place.of(tmp_path / "in")], SCHEMA)
    assert [one.cut for one in found] == [True, True]
    # A row that is no transaction, and one that repeats an id, count in the file's first day.
    assert cut(tmp_path, found) == {
        "2026-01-01": [1, 4, 11, -1, -1],
        "2026-01-02": [0, 2, 10, 0, 0],
    }
    assert cut(tmp_path, found, only=["2026-01-02"]) == {
        "2026-01-01": [0, 0],
        "2026-01-02": [0, 2, 10, 0, 0],
    }


def test_a_file_that_cannot_be_cut_fails_its_days_alone(tmp_path: Path) -> None:
    write(tmp_path / "in/a.csv", ["2026-01-02", "2026-01-01"])
    (tmp_path / "in/b.parquet").write_bytes(b"PAR1 no more")
    write(tmp_path / "in/c.csv", ["x"])
    found = archive_partitions([Place.of(tmp_path / "in")], SCHEMA)
    assert cut(tmp_path, found) == {
        UNDATED: [Code.INPUT_DAMAGED],
        "2026-01-01": [1, 0, 0],
        "2026-01-02": [0, 0, 0],
    }

"""Every row is in exactly one visible file, and that file is complete."""

import os
import stat
import struct
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.stages import SCORED
from beam_fraud.state.archive import (
    _ROW_GROUP_ROWS,
    ArchiveFolder,
    ArchiveShard,
    UnfinishedPart,
)
from beam_fraud.state.shard import rows_to_bytes
from beam_fraud.storage.parquet_writer import ParquetBlockWriter, is_ours
from tests.earlier import earlier
from tests.failing import fails
from tests.flagged import flagged_batch
from tests.full_disk import full_disk
from tests.shard_host import TRANSACTIONS, Event, Host, transactions


def archive(
    directory: Path,
    *,
    shard: int = 0,
    rows: int = 10,
    seconds: float = 60.0,
    beside: bool = False,
) -> Host:
    return Host(
        lambda clock: ArchiveShard(
            directory, TRANSACTIONS, shard, rows, seconds, beside=beside, clock=clock
        )
    )


def batch(start: int, rows: int) -> pa.RecordBatch:
    return transactions([str(i) for i in range(start, start + rows)], range(rows))


def event(start: int, rows: int, now: float = 1_000.0) -> Event:
    return Event(now, batch(start, rows))


def parts(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("part-*.parquet"))


def seen(directory: Path) -> list[int]:
    """Return the ids in all visible files, in the order of their names."""
    tables = [pq.read_table(directory / name) for name in parts(directory)]
    return [int(id) for table in tables for id in table["transaction_id"].to_pylist()]


def test_a_part_is_rolled_when_it_is_full(tmp_path: Path) -> None:
    host = archive(tmp_path / "scores", shard=7)
    for number in range(5):
        host.bundle([event(number * 6, 6)])
    assert parts(tmp_path / "scores") == ["part-007-00000000.parquet", "part-007-00000001.parquet"]
    assert seen(tmp_path / "scores") == list(range(24))
    assert host.shard.waiting
    host.finish()
    assert seen(tmp_path / "scores") == list(range(30))
    assert not host.shard.waiting


def test_a_part_is_rolled_when_its_oldest_row_has_waited(tmp_path: Path) -> None:
    host = archive(tmp_path, rows=1_000)
    host.bundle([event(0, 3, 1_000.0), event(3, 3, 1_050.0), Event(1_059.0)])
    assert seen(tmp_path) == []
    host.bundle([Event(1_060.0)])
    assert seen(tmp_path) == list(range(6))
    host.bundle([event(6, 1, 1_061.0), Event(1_100.0)])
    assert seen(tmp_path) == list(range(6))


def test_rows_of_an_earlier_process_do_not_wait_again(tmp_path: Path) -> None:
    host = archive(tmp_path)
    host.bundle([event(0, 3, 1_000.0)])
    host.restore()
    host.bundle([event(3, 3, 1_050.0), Event(1_060.0)])
    assert seen(tmp_path) == list(range(6))


def test_a_clock_that_was_set_back_does_not_keep_rows_waiting(tmp_path: Path) -> None:
    host = archive(tmp_path)
    host.bundle([event(0, 3, 9_000.0), Event(1_000.0), Event(1_060.0)])
    assert seen(tmp_path) == [0, 1, 2]


def test_only_complete_files_are_visible(tmp_path: Path) -> None:
    host = archive(tmp_path)
    host.bundle([event(0, 9)])
    assert [path.name[0] for path in tmp_path.iterdir()] == ["."]
    host.bundle([event(9, 1)])
    (path,) = tmp_path.iterdir()
    assert path.name == "part-000-00000000.parquet"
    assert is_ours(path)


def test_a_file_is_durable_before_it_is_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    really = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), parts(tmp_path)))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    archive(tmp_path).bundle([event(0, 10)])
    assert synced == [(False, []), (True, ["part-000-00000000.parquet"])]


def test_a_part_without_stored_state_is_written_again(tmp_path: Path) -> None:
    host = archive(tmp_path)
    host.bundle([event(0, 12), event(12, 4)])
    host.fail([event(16, 8), event(24, 30)])
    assert seen(tmp_path) == list(range(12))
    host.bundle([event(16, 8)])
    assert seen(tmp_path) == list(range(24))


def test_parts_of_other_shards_and_foreign_files_are_not_changed(tmp_path: Path) -> None:
    others = ["part-001-00000005.parquet", "part-000-x.parquet", "part-20260101T000000-ab.parquet"]
    for name in (*others, ".part-001-ab.unfinished", ".part-000-ab.unfinished"):
        (tmp_path / name).touch()
    host = archive(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*others, ".part-001-ab.unfinished"]
    )
    assert not host.shard.waiting


def test_stored_rows_can_be_rolled_without_a_graph(tmp_path: Path) -> None:
    host = archive(tmp_path)
    host.bundle([event(0, 4), event(4, 3)])
    last = ArchiveShard(tmp_path, TRANSACTIONS, 0, 10, 60.0)
    last.restore([delta.data for delta in host.kept])
    effects = last.finish()
    assert seen(tmp_path) == list(range(7))
    assert effects.replaces
    after = ArchiveShard(tmp_path, TRANSACTIONS, 0, 10, 60.0)
    after.restore([delta.data for delta in effects.deltas])
    assert not after.waiting
    assert seen(tmp_path) == list(range(7))


def test_reading_stored_rows_writes_nothing(tmp_path: Path) -> None:
    host = archive(tmp_path)
    host.bundle([event(0, 4)])
    host.restore()
    assert list(tmp_path.iterdir()) == []
    assert host.shard.waiting


def test_rows_of_another_version_are_refused(tmp_path: Path) -> None:
    host = archive(tmp_path)
    host.bundle([event(0, 4)])
    other = ArchiveShard(tmp_path, TRANSACTIONS.remove(2), 0, 10, 60.0)
    with pytest.raises(FraudError, match=f"{tmp_path}.*another version.*--out"):
        other.restore([delta.data for delta in host.kept])


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("sizes", [[10], [5, 40_000], [200_000]])
def test_a_full_disk_is_one_line_and_costs_no_row(
    tmp_path: Path, sizes: Sequence[int], beside: bool
) -> None:
    host = archive(tmp_path, rows=10, beside=beside)
    events = [*(event(0, rows) for rows in sizes), Event(1_000.0)]
    with full_disk(), pytest.raises(FraudError) as refused:
        host.bundle(events)
    assert str(refused.value) == (
        f"{tmp_path}: cannot be written (File too large); "
        "correct that and start the stream again, nothing is lost"
    )
    assert list(tmp_path.iterdir()) == []
    host.restore()
    host.bundle(events)
    assert len(seen(tmp_path)) == sum(sizes)


def test_a_full_part_is_closed_beside_other_calls(tmp_path: Path) -> None:
    def close() -> None:
        assert isinstance(host.shard, ArchiveShard)
        host.shard.close_complete()

    host = archive(tmp_path, rows=10, beside=True)
    host.bundle([event(0, 12)])
    close()
    assert seen(tmp_path) == []
    host.bundle([event(12, 3)])
    assert seen(tmp_path) == list(range(12))
    close()
    host.bundle([event(15, 9)])
    with full_disk():
        close()
    with fails(Code.OUTPUT_UNWRITABLE):
        host.bundle([Event(1_000.0)])
    host.restore()
    host.bundle([Event(1_000.0)])
    assert seen(tmp_path) == list(range(24))


def test_an_old_part_is_closed_beside_other_calls(tmp_path: Path) -> None:
    host = archive(tmp_path, rows=10, beside=True)
    assert isinstance(host.shard, ArchiveShard)
    host.bundle([event(0, 3), Event(1_030.0)])
    host.shard.close_complete()
    host.bundle([event(3, 1, 1_040.0), Event(1_061.0)])
    # It takes no more rows, so that its file can be closed before the call that finishes it.
    assert seen(tmp_path) == []
    (hidden,) = tmp_path.iterdir()
    host.shard.close_complete()
    assert pq.read_metadata(hidden).num_rows == 4
    host.bundle([event(4, 1, 1_061.0)])
    assert seen(tmp_path) == list(range(4))
    host.bundle([Event(1_200.0), Event(1_200.0)])
    assert seen(tmp_path) == list(range(5))


def test_a_part_of_twice_as_many_rows_is_finished_at_once(tmp_path: Path) -> None:
    host = archive(tmp_path, rows=10, beside=True)
    host.bundle([event(0, 19)])
    assert seen(tmp_path) == []
    host.bundle([event(19, 4)])
    host.bundle([event(23, 16)])
    # What a server remembers of answers is found in no file yet.
    assert seen(tmp_path) == list(range(39))


def test_a_restored_full_part_is_closed_only_with_all_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = archive(tmp_path, rows=10, beside=True)
    host.bundle([event(0, 5), event(5, 7)])
    host.restore()
    write = UnfinishedPart.write

    def closed_meanwhile(part: UnfinishedPart, batch: pa.RecordBatch) -> None:
        write(part, batch)
        assert isinstance(host.shard, ArchiveShard)
        host.shard.close_complete()

    monkeypatch.setattr(UnfinishedPart, "write", closed_meanwhile)
    host.bundle([event(12, 3)])
    assert seen(tmp_path) == list(range(12))


def test_a_closed_part_refuses_rows(tmp_path: Path) -> None:
    part = ArchiveFolder(tmp_path).begin("part-000-", TRANSACTIONS, beside=True)
    part.write(batch(0, 1))
    part.finish()
    with pytest.raises(ValueError, match="is closed"):
        part.write(batch(1, 1))


def test_a_failure_of_arrow_is_one_line_and_costs_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(writer: ParquetBlockWriter, table: pa.Table) -> None:
        raise pa.ArrowInvalid("no more memory")

    host = archive(tmp_path, rows=10, beside=True)
    host.bundle([event(0, 12)])
    assert isinstance(host.shard, ArchiveShard)
    with monkeypatch.context() as failing:
        failing.setattr(ParquetBlockWriter, "_write_table", refused)
        host.shard.close_complete()
    # Closed again, the file would seem whole.
    with fails(Code.OUTPUT_UNWRITABLE, "no more memory"):
        host.bundle([Event(1_000.0)])
    assert list(tmp_path.iterdir()) == []
    host.restore()
    host.bundle([Event(1_000.0)])
    assert seen(tmp_path) == list(range(12))


def test_a_directory_that_cannot_be_created_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "scores").touch()
    with pytest.raises(FraudError, match="scores is a file"):
        ArchiveShard(tmp_path / "scores", TRANSACTIONS, 0, 10, 60.0).restore([])


def test_memory_is_that_of_one_row_group(tmp_path: Path) -> None:
    host = archive(tmp_path, rows=1_000_000)
    before = pa.total_allocated_bytes()
    for number in range(100):
        host.shard.take(batch(number * 1_000, 1_000))
    held = pa.total_allocated_bytes() - before
    assert held < _ROW_GROUP_ROWS * 100


def test_row_groups_that_a_thread_writes_are_the_same(tmp_path: Path) -> None:
    files = []
    for beside in (False, True):
        host = archive(tmp_path / str(beside), rows=50_000, beside=beside)
        for number in range(10):
            host.bundle([event(number * 5_000, 5_000)])
        host.bundle([Event(1_000.0)])
        (file,) = (tmp_path / str(beside)).glob("part-*.parquet")
        files.append(file.read_bytes())
    assert files[0] == files[1]


def test_rows_of_an_earlier_version_get_the_columns_they_lack(tmp_path: Path) -> None:
    host = Host(lambda clock: ArchiveShard(tmp_path, SCORED, 0, 10, 60.0, clock=clock))
    old = rows_to_bytes(earlier(flagged_batch(["1", "2"])))
    host.shard.restore([struct.pack("<cd", b"R", 1_000.0) + old])
    host.bundle([Event(1_000.0, flagged_batch(["3"]))])
    host.finish()
    assert seen(tmp_path) == [1, 2, 3]
    [part] = parts(tmp_path)
    assert pq.read_schema(tmp_path / part).equals(SCORED)


def test_rows_of_another_form_are_refused(tmp_path: Path) -> None:
    shard = ArchiveShard(tmp_path, SCORED, 0, 10, 60.0)
    rows = rows_to_bytes(flagged_batch().drop_columns(["model_id"]))
    with fails(Code.STATE_UNREADABLE, "another version"):
        shard.restore([struct.pack("<cd", b"R", 1_000.0) + rows])


def kept(start: int, rows: int) -> pa.RecordBatch:
    """Return rows that keep the model's input."""
    features = pa.array([{"amount": float(row)} for row in range(rows)])
    return batch(start, rows).append_column("features", features)


def test_rows_that_keep_other_inputs_are_in_parts_of_their_own(tmp_path: Path) -> None:
    host = archive(tmp_path, rows=10)
    for rows in (batch(0, 4), kept(4, 3), batch(7, 5), kept(12, 12)):
        host.bundle([Event(1_000.0, rows)])
    host.finish()
    assert seen(tmp_path) == list(range(24))
    columns = ["features" in pq.read_schema(tmp_path / name).names for name in parts(tmp_path)]
    assert columns == [False, True, False, True]


def test_a_stream_that_keeps_inputs_from_now_on_restores_the_rows_before(tmp_path: Path) -> None:
    host = archive(tmp_path, rows=10)
    host.bundle([Event(1_000.0, kept(0, 4))])
    host.restore()
    host.bundle([Event(1_001.0, batch(4, 4))])
    host.restore()
    host.finish()
    assert seen(tmp_path) == list(range(8))

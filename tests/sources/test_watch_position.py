"""A stream over a directory resumes where it was stopped."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from apache_beam.utils.timestamp import MAX_TIMESTAMP

from beam_fraud.errors import Code
from beam_fraud.sources.watch.position import WATCH, WatchPosition
from beam_fraud.sources.watch.source import WatchSource
from beam_fraud.storage.checkpoint import LocalCheckpoint
from tests.dropping import batches, drop, first, places, raw_rows, read, rows
from tests.failing import fails
from tests.reading import BANK, csv_of, write_text


@pytest.fixture
def source(inbox: Path) -> WatchSource:
    return WatchSource(str(inbox), BANK, "required", block_rows=10, poll=0.01, until_idle=0.05)


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl", "a.csv.gz"])
@pytest.mark.parametrize("done", [0, 1, 10, 24, 25])
def test_a_mark_resumes_within_a_file_for_any_size_of_blocks(
    name: str, done: int, source: WatchSource, inbox: Path
) -> None:
    path = drop(inbox / name, 25) if "gz" not in name else inbox / name
    if "gz" in name:
        write_text(path, csv_of(*rows(25)))
    begun = replace(source, block_rows=max(done, 1)).create_reader(None, None)
    marks = [begun.get_checkpoint_mark()]
    if done:
        first(begun, 1)
        marks.append(begun.get_checkpoint_mark())
    coder = source.get_checkpoint_mark_coder()
    mark = coder.decode(coder.encode(marks[-1]))
    assert mark == marks[-1]
    assert places(read(source, mark)) == [(name, i) for i in range(done, 25)]


def test_the_watermark_stays_behind_and_never_goes_back(source: WatchSource, inbox: Path) -> None:
    drop(inbox / "first.csv", 1, seconds=4e9)
    reader = replace(source, lateness=5_000_000, until_idle=None).create_reader(None, None)
    first(reader, 1)
    known = reader.get_watermark()
    assert known.micros / 1e6 <= time.time() - 5
    drop(inbox / "second.csv", 1, seconds=1e9)
    first(reader, 1)
    assert reader.get_watermark() == known


def test_the_next_start_reads_the_rest_of_a_file(
    source: WatchSource, inbox: Path, tmp_path: Path
) -> None:
    drop(inbox / "a.csv", 25)
    stop = tmp_path / "stop"
    reader = replace(source, stop_file=str(stop), until_idle=None).create_reader(None, None)
    first(reader, 1)
    stop.touch()
    assert not reader.advance()
    assert reader.get_watermark() == MAX_TIMESTAMP
    assert len(read(source, reader.get_checkpoint_mark())) == 15


def test_a_closed_reader_resumes_from_its_mark(source: WatchSource, inbox: Path) -> None:
    drop(inbox / "a.csv", 25)
    reader = source.create_reader(None, None)
    result = first(reader, 1)
    mark = reader.get_checkpoint_mark()
    reader.close()
    assert source.create_reader(None, mark) is reader
    result += first(reader, 1)
    reader.close()
    # The mark of a bundle that failed: what came after it comes again.
    other = source.create_reader(None, mark)
    assert other is not reader
    result[1:] = batches(other)
    assert places(raw_rows(result)) == [("a.csv", i) for i in range(25)]
    other.close()


def test_positions_are_committed_and_restored(
    source: WatchSource, inbox: Path, tmp_path: Path
) -> None:
    state = tmp_path / "out" / "state.db"
    drop(inbox / "a.csv", 25)
    reader = replace(source, checkpoint=state).create_reader(None, None)
    first(reader, 2)
    mark = reader.get_checkpoint_mark()
    checkpoint = LocalCheckpoint.at(state)
    assert checkpoint.positions() == {}
    mark.finalize_checkpoint()
    written = Path(f"{state}-wal").stat().st_size
    mark.finalize_checkpoint()
    assert Path(f"{state}-wal").stat().st_size == written, "a stream at rest writes nothing"
    again = replace(source, positions=checkpoint.positions()[WATCH])
    checkpoint.close()
    assert places(read(again)) == [("a.csv", i) for i in range(20, 25)]


def test_a_failed_commit_ends_the_stream(source: WatchSource, inbox: Path, tmp_path: Path) -> None:
    drop(inbox / "a.csv", 25)
    state = tmp_path / "out" / "state.db"
    reader = replace(source, checkpoint=state).create_reader(None, None)
    first(reader, 1)
    checkpoint = LocalCheckpoint.at(state)
    checkpoint._connection.close()
    with fails(Code.OUTPUT_UNWRITABLE):
        reader.get_checkpoint_mark().finalize_checkpoint()
    with fails(Code.OUTPUT_UNWRITABLE):
        reader.advance()
    checkpoint.close()


def test_marks_are_small_and_equal_ones_encoded_alike(source: WatchSource, inbox: Path) -> None:
    for number in range(100):
        drop(inbox / f"a-file-with-a-long-name-{number:06d}.csv", 1, seconds=1e9 + number)
    encoded = []
    for _ in range(2):
        reader = source.create_reader(None, None)
        assert len(batches(reader)) == 100
        encoded.append(source.get_checkpoint_mark_coder().encode(reader.get_checkpoint_mark()))
    assert encoded[0] == encoded[1]
    assert len(encoded[0]) < 100 * 16 + 100


def test_an_unreadable_position_is_reported() -> None:
    with fails(Code.STATE_UNREADABLE, "another --out"):
        WatchPosition.decode("{}")

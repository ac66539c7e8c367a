"""Unreadable files of a watched directory are dead letters and cost no other file."""

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.records.parse import parse
from beam_fraud.records.validate import validate
from beam_fraud.sources.watch.dropped import DroppedFile
from beam_fraud.sources.watch.position import WatchMark, WatchPosition
from beam_fraud.sources.watch.source import WatchSource
from tests.dropping import batches, drop, first, places, raw_rows, read, rows, warnings
from tests.reading import BANK, GOOD, csv_of, write_text
from tests.watching import rows_of


@pytest.fixture
def source(inbox: Path) -> WatchSource:
    return WatchSource(str(inbox), BANK, "required", block_rows=10, poll=0.01, until_idle=0.05)


@pytest.mark.parametrize(
    ("name", "content", "detail"),
    [
        ("a.parquet", b"PAR1 and no more", "is not a readable Parquet file"),
        ("a.parquet", b"a,b\n1,2\n", "is not a parquet file, whatever its name says"),
        ("a.csv", b"id,when\n1,2\n", "of schema bank is not there"),
        (b"\xff.csv", csv_of(GOOD), "its name is not UTF-8"),
    ],
)
def test_an_unreadable_file_is_one_dead_letter(
    name: str | bytes,
    content: bytes,
    detail: str,
    source: WatchSource,
    inbox: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_text(inbox / os.fsdecode(name), content)
    os.utime(inbox / os.fsdecode(name), (1, 1))
    drop(inbox / "b.csv", 1)
    reader = replace(source, until_idle=None).create_reader(None, None)
    (dead,) = raw_rows(first(reader, 1))
    shown = name if isinstance(name, str) else "\\xff.csv"
    assert (dead["source"], dead["@position"], dead["@payload"]) == (shown, 0, b"")
    assert dead["@reason"] == "unreadable_file"
    assert detail in dead["@detail"]
    assert "\n" not in dead["@detail"]
    (warning,) = warnings(caplog)
    assert warning == f"{dead['@detail']}; it is a dead letter, and the stream continues"
    assert places(read(source, reader.get_checkpoint_mark())) == [("b.csv", 0)]


def test_a_damaged_file_is_read_to_where_it_is_damaged(source: WatchSource, inbox: Path) -> None:
    path = inbox / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows(100)), path, row_group_size=25)
    column = pq.ParquetFile(path).metadata.row_group(2).column(0)
    with path.open("r+b") as file:
        file.seek(column.dictionary_page_offset)
        file.write(b"\xff" * column.total_compressed_size)
    reader = source.create_reader(None, None)
    *good, dead = batches(reader)
    count = sum(map(len, good))
    assert 0 < count <= 50
    (letter,) = raw_rows([dead])
    assert (letter["@reason"], letter["@position"]) == ("unreadable_file", count)
    assert read(source, reader.get_checkpoint_mark()) == []


def test_a_file_that_is_changed_while_it_is_read_is_never_mixed(
    source: WatchSource, inbox: Path
) -> None:
    path = drop(inbox / "a.csv", 25)
    reader = source.create_reader(None, None)
    first(reader, 1)
    drop(path, 30, "u")
    (letter,) = raw_rows(batches(reader))
    assert places([letter]) == [("a.csv", 10)]
    assert letter["@detail"].startswith("a.csv: was changed before it was read to the end; write")


def test_a_file_that_is_removed_while_it_is_open_is_read_to_its_end(
    source: WatchSource, inbox: Path
) -> None:
    path = drop(inbox / "a.csv", 25)
    reader = source.create_reader(None, None)
    result = first(reader, 1)
    path.unlink()
    assert places(raw_rows(result + batches(reader))) == [("a.csv", i) for i in range(25)]


@pytest.mark.parametrize("how", ["removed", "changed"])
def test_a_file_that_cannot_be_continued_after_a_stop_is_a_dead_letter(
    how: str, source: WatchSource, inbox: Path
) -> None:
    path = drop(inbox / "a.csv", 25)
    reader = source.create_reader(None, None)
    first(reader, 1)
    mark = reader.get_checkpoint_mark()
    if how == "removed":
        path.unlink()
    else:
        drop(path, 30, "u")
    reader = source.create_reader(None, mark)
    (letter,) = raw_rows(batches(reader))
    assert places([letter]) == [("a.csv", 10)]
    assert f"was {how} before it was read to the end" in letter["@detail"]
    assert read(source, reader.get_checkpoint_mark()) == []


def odd_link(path: Path) -> None:
    path.symlink_to("nowhere.parquet")


def odd_loop(path: Path) -> None:
    path.symlink_to(path.name)


def odd_pipe(path: Path) -> None:
    os.mkfifo(path)


def odd_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(os.path.relpath(path))


def odd_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def odd_folder(path: Path) -> None:
    path.mkdir()


def odd_empty(path: Path) -> None:
    path.touch()
    os.utime(path, (1, 1))


def odd_replay(path: Path) -> None:
    path.with_name("a.replay").write_bytes(b"SQLite format 3\0")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (odd_link, "a.parquet: is a link that leads to nothing readable"),
        (odd_loop, "a.parquet: is a link that leads to nothing readable"),
        (odd_pipe, "a.parquet: is a pipe, socket or device; left out"),
        (odd_socket, "a.parquet: is a pipe, socket or device; left out"),
        (odd_device, "a.parquet: is a pipe, socket or device; left out"),
        (odd_folder, "a.parquet: is a folder; left out"),
        (odd_empty, "a.parquet: is empty; left out"),
        (odd_replay, "a.replay: its name says no known format"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_other_entries_are_left_out_with_one_warning(
    make: Callable[[Path], None],
    message: str,
    source: WatchSource,
    inbox: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(inbox)
    make(inbox / "a.parquet")
    drop(inbox / "b.csv", 1)
    assert places(read(source)) == [("b.csv", 0)]
    (warning,) = warnings(caplog)
    assert warning.startswith(message)


def test_a_file_that_was_empty_is_read_once_it_is_written(source: WatchSource, inbox: Path) -> None:
    odd_empty(inbox / "a.csv")
    drop(inbox / "b.csv", 1)
    reader = replace(source, until_idle=None).create_reader(None, None)
    first(reader, 1)
    drop(inbox / "a.csv", 1)
    assert places(raw_rows(first(reader, 1))) == [("a.csv", 0)]


def test_a_file_of_replayed_dead_letters_begun_before_is_a_dead_letter(
    source: WatchSource, inbox: Path
) -> None:
    odd_replay(inbox / "a.parquet")
    status = (inbox / "a.replay").stat()
    begun = DroppedFile(str(inbox / "a.replay"), status.st_size, status.st_mtime_ns)
    mark = WatchMark(WatchPosition().begun(begun), None)
    reader = source.create_reader(None, mark)
    (letter,) = raw_rows(batches(reader))
    assert "its name says no known format" in letter["@detail"]
    assert read(source, reader.get_checkpoint_mark()) == []


def test_dead_letters_of_files_pass_through_the_graph_as_others_do(
    source: WatchSource, inbox: Path
) -> None:
    write_text(inbox / "a.csv", b"id,when\n1,2\n")
    (raw,) = batches(source.create_reader(None, None))
    parsed = parse(raw, BANK, labels="required")
    good, dead = validate(parsed, BANK, labels="required", ahead=0)
    assert rows_of(good) == []
    (letter,) = rows_of(dead)
    assert (letter["source"], letter["position"]) == ("a.csv", 0)
    assert (letter["reason"], letter["payload"]) == ("unreadable_file", "")
    assert "'amount' of schema bank" in letter["detail"] or "is not there" in letter["detail"]

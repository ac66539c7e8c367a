"""Files of a watched directory: which are read, when, and how often."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from apache_beam.utils.timestamp import MAX_TIMESTAMP

from beam_fraud.errors import Code
from beam_fraud.schema.notation import TimeNotation
from beam_fraud.schema.schema import Schema
from beam_fraud.sources.raw import origin_of
from beam_fraud.sources.watch.source import WatchSource
from tests.dropping import PATIENCE, batches, drop, first, places, raw_rows, read, rows, warnings
from tests.failing import fails
from tests.reading import BANK, GOOD, csv_of, write_text


@pytest.fixture
def source(inbox: Path) -> WatchSource:
    return WatchSource(str(inbox), BANK, "required", block_rows=10, poll=0.01, until_idle=0.05)


def test_files_come_by_time_and_name_each_with_its_time(source: WatchSource, inbox: Path) -> None:
    drop(inbox / "b.csv", 3, seconds=1_700_000_002)
    drop(inbox / "a.jsonl", 3, seconds=1_700_000_002)
    drop(inbox / "z.parquet", 12, seconds=1_700_000_001.5)
    drop(inbox / "y.orc", 3, seconds=1_700_000_001)
    drop(inbox / "x.avro", 3, seconds=1_700_000_000.5)
    reader = source.create_reader(None, None)
    stamps = []
    result = batches(reader, lambda: stamps.append(reader.get_watermark()))
    origins = [origin_of(batch) for batch in result]
    assert [(o.source, len(b)) for o, b in zip(origins, result, strict=True)] == [
        ("x.avro", 3),
        ("y.orc", 3),
        ("z.parquet", 10),
        ("z.parquet", 2),
        ("a.jsonl", 3),
        ("b.csv", 3),
    ]
    assert [o.appended for o in origins] == [
        *(1_700_000_000_500, 1_700_000_001_000),
        *[1_700_000_001_500] * 2,
        *[1_700_000_002_000] * 2,
    ]
    assert stamps == sorted(stamps)
    assert stamps[-1].micros == 1_700_000_002_000_000


def test_each_file_settles_its_format_of_times(inbox: Path) -> None:
    forms = ("%m/%d/%Y", "%d/%m/%Y")
    schema = Schema("bank", {"event_time": "at", "amount": "value"}, time=TimeNotation(forms))
    source = WatchSource(str(inbox), schema, "ignored", block_rows=10, poll=0.01, until_idle=0.05)
    write_text(inbox / "a.csv", b"at,value\n01/02/2019,1\n01/13/2019,1\n")
    write_text(inbox / "b.csv", b"at,value\n01/02/2019,1\n13/01/2019,1\n")
    origins = [origin_of(batch) for batch in batches(source.create_reader(None, None))]
    assert {one.source: dict(one.forms)["at"] for one in origins} == {
        "a.csv": forms[:1],
        "b.csv": forms[1:],
    }


def test_a_growing_file_is_read_when_it_is_complete(source: WatchSource, inbox: Path) -> None:
    text = csv_of(*rows(25))
    path = write_text(inbox / "a.csv", b"")
    reader = source.create_reader(None, None)
    for cut in range(0, len(text), 300):
        # Every listing shows another size.
        with path.open("ab") as file:
            file.write(text[cut : cut + 300])
        listed = reader._directory.listed_at
        deadline = time.monotonic() + PATIENCE
        while reader._directory.listed_at == listed:
            assert time.monotonic() < deadline
            assert not reader.advance()
    assert places(raw_rows(batches(reader))) == [("a.csv", i) for i in range(25)]


def test_hidden_and_other_files_are_skipped(
    source: WatchSource, inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (".a.csv", "_a.csv", "a.csv.tmp", "b.csv.part", "c.csv.crdownload", "d.csv~"):
        write_text(inbox / name, csv_of(GOOD))
    (inbox / "folder.csv").mkdir()
    drop(inbox / "folder.csv" / "a.csv", 1)
    os.mkfifo(inbox / "pipe.csv")
    (inbox / "gone.csv").symlink_to(inbox / "nowhere")
    write_text(inbox / "empty.csv", b"")
    write_text(inbox / "notes.txt", b"hello")
    drop(inbox / "a.csv", 1)
    assert places(read(source)) == [("a.csv", 0)]
    message = sorted(warnings(caplog))
    assert [line.partition(":")[0] for line in message] == [
        *("folder.csv", "gone.csv", "notes.txt", "pipe.csv")
    ]
    assert message[2].startswith("notes.txt: its name says no known format; rename it to end in")


def test_a_file_under_the_name_of_another_is_warned_of_once_and_not_read(
    source: WatchSource, inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = drop(inbox / "a.csv", 2)
    reader = replace(source, until_idle=None).create_reader(None, None)
    first(reader, 1)
    assert not reader.advance()
    drop(path, 3, "u")
    drop(inbox / "b.csv", 1)
    assert places(raw_rows(first(reader, 1))) == [("b.csv", 0)]
    again = replace(source, positions=reader.get_checkpoint_mark().position.encode().decode())
    assert read(again) == []
    message = "a.csv: was changed after it was read; to have it read, give it another name"
    assert warnings(caplog) == [message, message]
    os.utime(path, (1, 1))
    caplog.clear()
    assert read(again) == []
    assert warnings(caplog) == [message]


def test_an_unchanged_file_returns_without_a_warning(
    source: WatchSource, inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = drop(inbox / "a.csv", 1)
    reader = replace(source, until_idle=None).create_reader(None, None)
    first(reader, 1)
    assert not reader.advance()
    path.rename(inbox / "a.tmp")
    assert read(source, reader.get_checkpoint_mark()) == []
    (inbox / "a.tmp").rename(path)
    assert read(source, reader.get_checkpoint_mark()) == []
    assert warnings(caplog) == []


def test_without_a_limit_an_idle_stream_continues(source: WatchSource) -> None:
    reader = replace(source, until_idle=None).create_reader(None, None)
    begun = time.monotonic()
    while time.monotonic() < begun + 0.1:
        assert not reader.advance()
    assert reader.get_watermark() < MAX_TIMESTAMP


def test_a_missing_directory_is_waited_for(
    source: WatchSource, inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader = replace(source, until_idle=None).create_reader(None, None)
    assert not reader.advance()
    away = inbox.rename(inbox.parent / "away")
    listed = reader._directory.listed_at
    while not warnings(caplog) or reader._directory.listed_at - listed < 0.05:
        assert not reader.advance()
        assert time.monotonic() < listed + PATIENCE
    assert warnings(caplog) == [
        f"{inbox}: cannot be listed any more (No such file or directory); waiting"
    ]
    drop(away / "a.csv", 1)
    away.rename(inbox)
    assert places(raw_rows(first(reader, 1))) == [("a.csv", 0)]


def test_a_directory_that_cannot_be_watched_is_refused_in_one_line(
    source: WatchSource, inbox: Path
) -> None:
    source.check()
    for path, why in ((inbox / "a.csv", "Not a directory"), (inbox / "b", "No such file")):
        drop(inbox / "a.csv", 1)
        with fails(Code.INPUT_UNREADABLE, f"^{path}: .*{why}"):
            replace(source, directory=str(path)).check()


def test_a_stream_is_not_idle_while_a_file_grows(source: WatchSource, inbox: Path) -> None:
    reader = replace(source, until_idle=0.0).create_reader(None, None)
    drop(inbox / "a.csv", 1)
    assert not reader.advance()
    assert reader.get_watermark() < MAX_TIMESTAMP
    assert places(raw_rows(batches(reader))) == [("a.csv", 0)]

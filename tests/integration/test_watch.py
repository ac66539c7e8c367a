"""A watched directory in a real pipeline on the local runner."""

import json
import multiprocessing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.sources.watch.source import WatchReader, WatchSource
from tests.reading import BANK, GOOD, csv_of, write_text
from tests.watching import position_in, stream


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def source(inbox: Path) -> WatchSource:
    return WatchSource(str(inbox), BANK, "required", block_rows=10, poll=0.02, until_idle=0.3)


def csv(path: Path, count: int) -> Path:
    """A file of transactions whose ids are `<name>:<row>`."""
    rows = ({**GOOD, "id": f"{path.name}:{i}"} for i in range(count))
    return write_text(path, csv_of(*rows))


def ids(*files: tuple[str, int]) -> list[str]:
    return [f"{name}:{i}" for name, count in files for i in range(count)]


def test_files_of_every_format_and_a_later_one_are_read_once(
    source: WatchSource, inbox: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = []
    init = WatchReader.__init__
    monkeypatch.setattr(
        WatchReader, "__init__", lambda self, *given: (created.append(self), init(self, *given))[1]
    )
    csv(inbox / "a.csv", 35)
    rows = [{**GOOD, "id": f"b.jsonl:{i}"} for i in range(15)]
    write_text(inbox / "b.jsonl", "".join(json.dumps(r) + "\n" for r in rows).encode())
    rows = [{**GOOD, "id": f"c.parquet:{i}"} for i in range(25)]
    pq.write_table(pa.Table.from_pylist(rows), inbox / "c.parquet")
    write_text(inbox / "d.csv", b"not,the,columns\n1,2,3\n")
    later = csv(tmp_path / "later.csv", 12)
    good, dead = stream(source, out, moves=((later, inbox / "later.csv"),))
    expected = ids(("a.csv", 35), ("b.jsonl", 15), ("c.parquet", 25), ("later.csv", 12))
    assert sorted(row["id"] for row in good) == sorted(expected)
    assert all(row["appended"] for row in good)
    assert [(row["source"], row["reason"]) for row in dead] == [("d.csv", "unreadable_file")]
    assert len(created) == 1, "one reader serves all bundles"

    csv(inbox / "new.csv", 3)
    good, dead = stream(source, out)
    assert sorted(row["id"] for row in good) == sorted([*expected, *ids(("new.csv", 3))])
    assert len(dead) == 1


def test_a_process_killed_within_a_file_resumes_from_its_last_commit(
    source: WatchSource, inbox: Path, out: Path
) -> None:
    csv(inbox / "a.csv", 95)
    spawn = multiprocessing.get_context("spawn")
    killed = spawn.Process(target=stream, args=(source, out), kwargs={"die_at": 6})
    killed.start()
    killed.join()
    assert killed.exitcode == 9
    committed = position_in(out)
    assert (committed.file is not None, committed.rows) == (True, 40)
    before = (out / "good.jsonl").read_text().splitlines()
    assert len(before) == 50
    good, dead = stream(source, out)
    assert [row["id"] for row in good[50:]] == ids(("a.csv", 95))[40:]
    assert dead == []
    final = position_in(out)
    assert (final.file, len(final.done)) == (None, 12)

"""`rescore` from a URL to a URL leaves what it leaves between directories."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import rescore
from beam_fraud.cli.options import RescoreOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.storage import objects
from beam_fraud.storage.objects import write
from tests.failing import fails
from tests.object_store import KeptObjects
from tests.pipeline.test_rescore import (  # noqa: F401  the models of the other tests
    DAYS,
    home,
    lay_out,
    partitions_of,
    scored,
    transactions,
)
from tests.stream_process import wait_until

ARCHIVE, OUT = "kept://bucket/days", "kept://bucket/out"
#: The command in a process that knows the store.
PROGRAM = """
import sys
from pathlib import Path
from beam_fraud.cli import main
from tests.object_store import KeptObjects
KeptObjects.root = Path(sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The objects, a file each."""
    (tmp_path / "objects").mkdir()
    monkeypatch.setattr(KeptObjects, "root", tmp_path / "objects", raising=False)
    return tmp_path / "objects"


def put(directory: Path, url: str) -> None:
    """Copy the files of a directory."""
    for path in directory.rglob("*"):
        if path.is_file():
            write(f"{url}/{path.relative_to(directory).as_posix()}", path.read_bytes())


@pytest.fixture
def options(home: Path, tmp_path: Path) -> RescoreOptions:  # noqa: F811
    """A call over the archive at the URL, to a URL."""
    put(home / "days", ARCHIVE)
    return RescoreOptions(files=(f"{ARCHIVE}/*/*",), model=str(home / "new"), out=OUT)


def here(options: RescoreOptions, archive: Path, tmp_path: Path) -> dict[str, bytes]:
    """Return what the same call leaves between directories."""
    out = tmp_path / "undisturbed"
    rescore.run(replace(options, files=(str(archive),), out=str(out)))
    return partitions_of(str(out))


def listed(url: str = OUT) -> list[str]:
    return [path.removeprefix(f"{url}/") for path in objects.objects(f"{url}/**")]


def left() -> dict[str, bytes]:
    """Return the files that the manifest names, without what tells runs apart."""
    manifest = json.loads(objects.read(f"{OUT}/manifest.json"))
    found = {}
    for one in manifest["partitions"]:
        for name in one["outputs"]:
            branch, _, file = name.partition("/")
            plain = "-".join(file.removesuffix(".parquet").split("-")[:2])
            data = objects.read(f"{OUT}/partitions/{one['name']}/{name}")
            found[f"{one['name']}/{branch}/{plain}.parquet"] = data
    return found


def parts() -> int:
    """Return how many files of partitions there are, named or not."""
    return len([name for name in listed() if name.endswith(".parquet") and "partitions/" in name])


def test_partitions_at_a_url_are_those_of_a_directory(
    options: RescoreOptions,
    home: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    options = replace(options, against=(str(home / "old"),), workers=2, resamples=20)
    summary: Any = rescore.run(options)
    assert (summary["rows_scored"], scored(summary)) == (3_000, DAYS)
    assert summary["outputs"]["partitions"] == f"{OUT}/partitions"
    expected = here(options, home / "days", tmp_path)
    assert left() == expected
    assert parts() == len(expected)
    changed = (tmp_path / "undisturbed/changed.parquet").read_bytes()
    assert objects.read(f"{OUT}/changed.parquet") == changed
    assert {f"comparison.{form}" for form in ("html", "json", "md")} < set(listed())
    assert json.loads(objects.read(f"{OUT}/summary.json")) == summary
    # A further run does nothing, and reads no file of the archive for its digest.
    assert scored(rescore.run(options)) == 0
    manifest = json.loads(objects.read(f"{OUT}/manifest.json"))
    inputs = [file for one in manifest["partitions"] for file in one["inputs"]]
    assert all(file["checksum"] and file["sha256"] is None for file in inputs)
    assert [name for name in listed() if name.startswith(".")] == []


def test_changed_objects_are_scored_again(
    options: RescoreOptions,
    home: Path,  # noqa: F811
    tmp_path: Path,
    kept: Path,
) -> None:
    options = replace(options, files=(ARCHIVE,))
    rescore.run(options)
    archive = lay_out(transactions(), tmp_path / "archive")
    day = "date=2024-01-04/part-0.parquet"
    pq.write_table(pq.ParquetFile(archive / day).read().slice(5), archive / day)
    write(f"{ARCHIVE}/{day}", (archive / day).read_bytes())
    assert scored(rescore.run(options)) in (3, 4)
    assert left() == here(options, archive, tmp_path)
    assert parts() == len(left())
    # Written again with the same bytes: the same by checksum, another by time.
    time.sleep(1.1)
    write(f"{ARCHIVE}/{day}", (archive / day).read_bytes())
    assert scored(rescore.run(options)) == 0
    assert scored(rescore.run(replace(options, trust_mtime=True))) in (3, 4)


def test_a_store_without_checksums_is_read_for_digests(
    options: RescoreOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(self: KeptObjects, path: str) -> str:
        raise NotImplementedError

    monkeypatch.setattr(KeptObjects, "checksum", none)
    rescore.run(options)
    manifest = json.loads(objects.read(f"{OUT}/manifest.json"))
    inputs = [file for one in manifest["partitions"] for file in one["inputs"]]
    assert all(len(file["sha256"]) == 64 for file in inputs)
    assert scored(rescore.run(options)) == 0


def test_an_object_that_changes_while_it_is_read_is_named(
    options: RescoreOptions,
    home: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    day = f"{ARCHIVE}/date=2024-01-09/part-0.parquet"
    upload = objects.upload
    table = pq.ParquetFile(home / "days/date=2024-01-09/part-0.parquet").read()

    def change(path: Path, url: str) -> None:
        pq.write_table(table.slice(7), tmp_path / "changed.parquet")
        write(day, (tmp_path / "changed.parquet").read_bytes())
        upload(path, url)

    monkeypatch.setattr(objects, "upload", change)
    with fails(Code.PARTITIONS_FAILED, "date=2024-01-09"):
        rescore.run(options)
    monkeypatch.undo()
    monkeypatch.setattr(KeptObjects, "root", tmp_path / "objects", raising=False)
    rescore.run(options)
    archive = lay_out(transactions(), tmp_path / "archive")
    pq.write_table(table.slice(7), archive / "date=2024-01-09/part-0.parquet")
    assert left() == here(options, archive, tmp_path)


def test_one_object_is_cut_by_event_time_and_its_days_are_remembered(
    options: RescoreOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "all.csv"
    pyarrow.csv.write_csv(transactions(3, 500), archive)
    write("kept://bucket/all.csv", archive.read_bytes())
    options = replace(options, files=("kept://bucket/all.csv",))
    assert scored(rescore.run(options)) == DAYS
    assert left() == here(options, archive, tmp_path)
    opened: list[str] = []
    real = KeptObjects.open

    def counted(self: KeptObjects, path: str, *given: Any, **named: Any) -> Any:
        opened.append(path)
        return real(self, path, *given, **named)

    monkeypatch.setattr(KeptObjects, "open", counted)
    assert scored(rescore.run(replace(options, trust_mtime=True))) == 0
    # Its header alone.
    assert opened.count("kept://bucket/all.csv") <= 2


def test_repeated_ids_of_complete_partitions_are_found(
    options: RescoreOptions, tmp_path: Path
) -> None:
    options = replace(options, dedupe="run")
    rescore.run(replace(options, until="2024-01-10"))
    table = transactions()
    pq.write_table(table.slice(100, 50).set_column(1, "t", table["t"][-50:]), tmp_path / "again")
    again = (tmp_path / "again").read_bytes()
    write(f"{ARCHIVE}/date=2024-01-10/part-1.parquet", again)
    assert rescore.run(options)["rows_duplicate"] == 50


@pytest.mark.parametrize(
    ("given", "code", "named"),
    [
        ({"out": "ftp://host/out"}, Code.URL_UNUSABLE, "ftp://"),
        (
            {"out": f"{ARCHIVE}/out", "files": (ARCHIVE,)},
            Code.PLACE_SHARED,
            "kept://bucket/days/out",
        ),
        ({"alerts": ("console:",)}, Code.SINK_UNSUITED, "--alert"),
    ],
)
def test_calls_that_a_url_cannot_serve_are_refused(
    options: RescoreOptions, given: dict[str, Any], code: Code, named: str
) -> None:
    with fails(code, named, UsageError):
        rescore.run(replace(options, **given))


def test_a_killed_run_goes_on_and_leaves_no_object_behind(
    options: RescoreOptions,
    home: Path,  # noqa: F811
    tmp_path: Path,
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    call = [sys.executable, "-c", PROGRAM, str(kept), "rescore", *options.files]
    call += ["--model", options.model, "--out", OUT, "--block-rows", "100"]
    with subprocess.Popen(call, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as running:
        limit = time.monotonic() + 60

        def done() -> int:
            return sum("partition.json" in path.name for path in kept.iterdir())

        def is_within_a_partition() -> bool:
            return done() >= 3 and any(name.startswith(".rescoring-") for name in listed())

        # Its imports take seconds, in which this process would look without a pause.
        assert wait_until(lambda: done() > 0 or running.poll() is not None)
        halted = False
        while not (halted and is_within_a_partition()):
            assert time.monotonic() < limit
            assert running.poll() is None
            # Halted before the last look, so that it is still there when it is killed.
            halted = is_within_a_partition()
            running.send_signal(signal.SIGSTOP if halted else signal.SIGCONT)
        running.send_signal(signal.SIGKILL)
    assert any(temporary.iterdir())
    summary = rescore.run(options)
    assert scored(summary) <= DAYS - 3
    assert [name for name in listed() if name.startswith(".")] == []
    assert list(temporary.iterdir()) == []
    assert left() == here(options, home / "days", tmp_path)
    assert parts() == len(left())

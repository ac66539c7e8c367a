"""The contract of the outputs of a run or a stream, in a directory and at a URL.

An operation is killed before each of its changes of the disk, or has the disk full from there on.
"""

from __future__ import annotations

import io
import itertools
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beam_fraud.errors import FraudError
from beam_fraud.schema.stages import DEAD_LETTER, SCORED, SHADOWED
from beam_fraud.state.archive import ArchiveShard
from beam_fraud.storage import atomic, objects
from beam_fraud.storage.batch_outputs import (
    DEAD_LETTERS,
    SCORE_BRANCHES,
    SCORES,
    SHADOW,
    RunOutputs,
)
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from beam_fraud.storage.store import store_at
from beam_fraud.storage.stream_outputs import StreamOutputs, object_stream_outputs
from tests.crash import full_disk_at, run_and_die_at
from tests.flagged import flagged_batch
from tests.object_store import KeptObjects

FULL = os.strerror(28)


@pytest.fixture(params=["directory", "url"])
def places(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Path | str]:
    """Return a function that makes a new place."""
    numbers = itertools.count()
    (tmp_path / "objects").mkdir()
    monkeypatch.setattr(KeptObjects, "root", tmp_path / "objects", raising=False)
    if request.param == "url":
        return lambda: f"kept://bucket/{next(numbers)}"
    return lambda: tmp_path / "directories" / str(next(numbers))


def names(place: Path | str) -> list[str]:
    """Return the names of all files below a place."""
    return [name for name in store_at(place).list("**") if not is_directory(place, name)]


def is_directory(place: Path | str, name: str) -> bool:
    return isinstance(place, Path) and (place / name).is_dir()


def rows(place: Path | str, folder: str = "") -> list[str]:
    """Return the ids in all visible parts."""
    store = store_at(place)
    parts = store.list(f"{folder}part-*.parquet")
    tables = [pq.read_table(io.BytesIO(store.read(part))) for part in parts]
    return sorted(id for table in tables for id in table["transaction_id"].to_pylist())


class TestBatch:
    """`RunOutputs`."""

    @staticmethod
    def run(place: Path | str, run: str, *ids: str) -> None:
        """Do the work of a run, including its workers; only the first has shadows."""
        outputs = RunOutputs(
            place, run, {**SCORE_BRANCHES, **({SHADOW: SHADOWED} if run == "r1" else {})}
        )
        outputs.begin()
        try:
            part = pickle.loads(pickle.dumps(outputs)).part(SCORES)
            file = part if isinstance(part, Path) else objects.create(part)
            writer = ParquetBlockWriter(file, SCORED)
            writer.write(flagged_batch(ids))
            writer.close()
            if outputs.at_url:
                file.close()
                outputs.publish_parts({SCORES: [str(part).rpartition("/")[2]]})
            outputs.publish()
        except FraudError:
            outputs.abandon()
            raise
        except OSError as error:
            outputs.abandon()
            raise outputs.failure(error) from None
        assert outputs.write_summary({"run": run})

    @staticmethod
    def summary(place: Path | str) -> bytes | None:
        store = store_at(place)
        return store.read("summary.json") if store.exists("summary.json") else None

    def check_readers(self, place: Path | str) -> None:
        """Check the files that a reader sees at any moment."""
        seen = rows(place, "scores/")
        if isinstance(place, Path):
            assert seen in ([], ["a"], ["b", "c"])
        else:
            # Rows too many, never too few.
            assert {"a"} <= set(seen) or {"b", "c"} <= set(seen)
        summary = self.summary(place)
        if summary is not None:
            assert seen == (["a"] if b"r1" in summary else ["b", "c"])
            assert bool(self.shadows(place)) == (b"r1" in summary)

    @staticmethod
    def shadows(place: Path | str) -> list[str]:
        return store_at(place).list("shadow/part-*.parquet")

    def check_next(self, place: Path | str) -> None:
        """Check the files after the next run has begun, and after it has succeeded."""
        if isinstance(place, Path):
            outputs = RunOutputs(place, "r3")
            outputs.begin()
            self.check_readers(place)
            assert rows(place, "scores/") in (["a"], ["b", "c"])
            assert pq.read_table(place / DEAD_LETTERS).schema.equals(DEAD_LETTER)
            outputs.abandon()
            assert [path.name for path in place.iterdir() if path.name[0] == "."] == []
        self.run(place, "r4", "d")
        assert rows(place, "scores/") == ["d"]
        assert self.shadows(place) == []
        summary = self.summary(place)
        assert summary is not None
        assert b"r4" in summary

    def test_killed_at_any_step(self, places: Callable[[], Path | str]) -> None:
        for step in itertools.count():
            place = places()
            self.run(place, "r1", "a")
            killed = run_and_die_at(step, lambda place=place: self.run(place, "r2", "b", "c"))
            self.check_readers(place)
            if not killed:
                assert rows(place, "scores/") == ["b", "c"]
                break
            self.check_next(place)
        assert step > 8

    def test_a_disk_that_is_full_at_any_step(self, places: Callable[[], Path | str]) -> None:
        for step in itertools.count():
            place = places()
            self.run(place, "r1", "a")
            failure = None
            with full_disk_at(step) as refused:
                try:
                    self.run(place, "r2", "b", "c")
                except FraudError as error:
                    failure = str(error)
            self.check_readers(place)
            if not refused():
                assert failure is None
                break
            assert failure is not None
            assert FULL in failure
            assert str(place) in failure
            assert "\n" not in failure
            self.check_next(place)
        assert step > 8


@dataclass
class Stream:
    """A process that writes the archive of a stream and stores its state in a file."""

    place: Path | str
    state: Path
    deferred: bool

    #: The batches that come.
    batches = (["a", "b"], ["c"], ["d", "e", "f"], ["g"])

    def run(self) -> None:
        """Restore the state, process the remaining batches, and finish."""
        stored, done = self.read()
        shard = ArchiveShard(self.place, SCORED, 3, 3, 60.0, deferred=self.deferred)
        shard.restore(stored)
        for number in range(done, len(self.batches) + 1):
            if number < len(self.batches):
                effects = shard.take(flagged_batch(self.batches[number]))
            else:
                effects = shard.finish()
            stored = [*(() if effects.replaces else stored), *(d.data for d in effects.deltas)]
            # By other means than those that a test watches.
            new = self.state.with_suffix(".new")
            new.write_bytes(pickle.dumps((stored, number + 1)))
            new.replace(self.state)
            for afterwards in effects.afterwards:
                afterwards()

    def read(self) -> tuple[list[bytes], int]:
        return pickle.loads(self.state.read_bytes()) if self.state.exists() else ([], 0)

    def check(self) -> None:
        """Resume after a failure: each row is in exactly one part, and nothing is hidden."""
        visible = rows(self.place)
        assert len(visible) == len(set(visible))
        self.run()
        stored, _ = self.read()
        ArchiveShard(self.place, SCORED, 3, 3, 60.0, deferred=self.deferred).restore(stored)
        assert rows(self.place) == ["a", "b", "c", "d", "e", "f", "g"]
        assert all(Path(name).match("part-003-*.parquet") for name in names(self.place))


@pytest.mark.parametrize("deferred", [False, True])
class TestArchive:
    """`ArchiveFolder` with the shard that writes to it."""

    def test_killed_at_any_step(
        self, places: Callable[[], Path | str], tmp_path: Path, deferred: bool
    ) -> None:
        for step in itertools.count():
            stream = Stream(places(), tmp_path / f"{step}.state", deferred)
            killed = run_and_die_at(step, stream.run)
            stream.check()
            if not killed:
                break
        assert step >= 6

    def test_a_disk_that_is_full_at_any_step(
        self, places: Callable[[], Path | str], tmp_path: Path, deferred: bool
    ) -> None:
        for step in itertools.count():
            stream = Stream(places(), tmp_path / f"{step}.state", deferred)
            failure: Exception | None = None
            with full_disk_at(step) as refused:
                try:
                    stream.run()
                except (FraudError, OSError) as error:
                    failure = error
            stream.check()
            if not refused():
                assert failure is None
                break
            assert failure is not None
            # What follows a commit is the runner's to do again, and to report.
            assert isinstance(failure, FraudError) or deferred
            assert FULL in str(failure)
        assert step >= 6


class TestStream:
    """`StreamOutputs`: the description of a stream, and its summary."""

    @staticmethod
    def outputs(place: Path | str) -> StreamOutputs:
        if isinstance(place, Path):
            return StreamOutputs(place)
        return object_stream_outputs(place, update=False)

    def write(self, place: Path | str, what: str) -> None:
        outputs = self.outputs(place)
        outputs.begin()
        try:
            outputs.write_about(what.encode())
            outputs.write_summary({"run": what})
        finally:
            outputs.release()

    def check(self, place: Path | str) -> None:
        outputs = self.outputs(place)
        about = outputs.read_about()
        assert about in (b"r1", b"r2")
        summary = store_at(place).read("summary.json")
        assert b"r1" in summary or (about == b"r2" and b"r2" in summary)
        self.write(place, "r3")
        assert outputs.read_about() == b"r3"
        assert [name for name in names(place) if "/." in f"/{name}"] == []

    def test_killed_at_any_step(self, places: Callable[[], Path | str]) -> None:
        for step in itertools.count():
            place = places()
            self.write(place, "r1")
            killed = run_and_die_at(step, lambda place=place: self.write(place, "r2"))
            self.check(place)
            if not killed:
                break
        assert step >= 2

    def test_a_disk_that_is_full_at_any_step(self, places: Callable[[], Path | str]) -> None:
        for step in itertools.count():
            place = places()
            self.write(place, "r1")
            failure = None
            with full_disk_at(step) as refused:
                try:
                    self.write(place, "r2")
                except FraudError as error:
                    failure = str(error)
            self.check(place)
            if not refused():
                break
            assert failure is not None
            assert FULL in failure
            assert "\n" not in failure
        assert step >= 2

    def test_a_second_stream_is_refused_until_the_first_ends(self, tmp_path: Path) -> None:
        first = StreamOutputs(tmp_path / "out")
        first.begin()
        with pytest.raises(FraudError, match="a stream is running there"):
            StreamOutputs(tmp_path / "out").begin()
        first.release()
        self.write(tmp_path / "out", "r2")


class TestPrimitives:
    """`atomic`."""

    def test_a_file_is_old_or_new(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        for step in itertools.count():
            path.write_bytes(b"old")
            killed = run_and_die_at(step, lambda: atomic.write_file(path, b"new"))
            assert path.read_bytes() == (b"old" if step < 3 else b"new")
            if not killed:
                break
            atomic.remove_unfinished(tmp_path, "file.")
            assert list(tmp_path.iterdir()) == [path]
            path.write_bytes(b"old")
            with full_disk_at(step), pytest.raises(OSError, match=FULL):
                atomic.write_file(path, b"new")
            assert path.read_bytes() == (b"old" if step < 3 else b"new")
            assert list(tmp_path.iterdir()) == [path]
        assert step == 4

    def test_a_directory_is_old_or_new_on_a_full_disk(self, tmp_path: Path) -> None:
        target = tmp_path / "model"
        for step in itertools.count():
            atomic.write_directory(target, {"a": b"old", "b": b"old"})
            with full_disk_at(step, times=1) as refused, suppress(OSError):
                atomic.write_directory(target, {"a": b"new"})
            result = {path.name: path.read_bytes() for path in target.iterdir()}
            assert result in ({"a": b"old", "b": b"old"}, {"a": b"new"})
            assert list(tmp_path.iterdir()) == [target]
            if not refused():
                break
        assert step > 4

    def test_a_directory_that_cannot_be_restored_stays_beside(self, tmp_path: Path) -> None:
        target = tmp_path / "model"
        for step in itertools.count():
            atomic.write_directory(target, {"a": b"old"})
            with full_disk_at(step) as refused, suppress(OSError):
                atomic.write_directory(target, {"a": b"new"})
            if not target.exists():
                (stored,) = tmp_path.glob(".model.*/old/a")
                assert stored.read_bytes() == b"old"
                return
            assert refused()

    def test_lines_are_appended_all_or_none(self, tmp_path: Path) -> None:
        path = tmp_path / "lines"
        path.write_bytes(b"one\ntor")
        for step in (0, 1):
            with (
                open(path, "ab+", buffering=0) as file,
                full_disk_at(step),
                pytest.raises(OSError, match=FULL),
            ):
                atomic.append_lines(file.fileno(), b"two\n")
            assert path.read_bytes() == b"one\ntor"
        with open(path, "ab+", buffering=0) as file:
            atomic.append_lines(file.fileno(), b"two\n")
        assert path.read_bytes() == b"one\ntor\ntwo\n"

"""A partition of a rescore is complete or absent, wherever its run is killed or the disk full."""

from __future__ import annotations

import itertools
import json
import logging
import os
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystem import BeamIOError

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.stages import SCORED
from beam_fraud.sources.filesystem import open_file
from beam_fraud.storage import lease as module
from beam_fraud.storage.batch_outputs import SCORES
from beam_fraud.storage.lease import Lease, LeaseRecord, leases
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from beam_fraud.storage.rescore_objects import RescoreObjects
from beam_fraud.storage.rescore_outputs import RescoreDirectory, RescoreOutputs
from beam_fraud.storage.store import ObjectStore, store_at
from tests.crash import full_disk_at, run_and_die_at
from tests.failing import fails
from tests.flagged import flagged_batch
from tests.object_store import KeptObjects

Places = Callable[[], Path | str]


@pytest.fixture
def objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The objects at `kept://`, a file each."""
    (tmp_path / "objects").mkdir()
    monkeypatch.setattr(KeptObjects, "root", tmp_path / "objects", raising=False)
    return tmp_path / "objects"


@pytest.fixture(params=["directory", "url"])
def places(request: pytest.FixtureRequest, tmp_path: Path, objects: Path) -> Places:
    """Return a function that makes a new place."""
    numbers = itertools.count()
    if request.param == "url":
        return lambda: f"kept://bucket/{next(numbers)}"
    return lambda: tmp_path / "directories" / str(next(numbers))


def outputs_at(place: Path | str, run_id: str) -> RescoreOutputs:
    if isinstance(place, Path):
        return RescoreDirectory(place, run_id)
    return RescoreObjects(place, run_id)


def publish(outputs: RescoreOutputs, *ids: str) -> None:
    """Write and publish a partition, as a worker does."""
    with pickle.loads(pickle.dumps(outputs)).attempt() as attempt:
        try:
            writer = ParquetBlockWriter(attempt.part("day", SCORES, "new"), SCORED)
            writer.write(flagged_batch(ids))
            writer.close()
        except OSError as error:
            raise attempt.failure(error) from None
        attempt.publish("day", json.dumps({"ids": ids, "outputs": attempt.files("day")}).encode())


def run(place: Path | str, run_id: str, *ids: str) -> None:
    """Write and publish one partition."""
    outputs = outputs_at(place, run_id)
    with outputs.writing():
        publish(outputs, *ids)
        outputs.write("manifest.json", json.dumps(ids).encode())


def failure_of(place: Path | str) -> FraudError | None:
    """Run, and return how that failed."""
    try:
        run(place, "r2", "b", "c")
    except FraudError as error:
        return error
    return None


def there(place: Path | str) -> dict[str, list[str]]:
    """Return the ids that the record of each partition says, which are those of its files."""
    outputs = outputs_at(place, "reader")
    found = {}
    for name, record in outputs.records().items():
        said = json.loads(record)
        ids = [
            id
            for file in outputs.scores(name, said["outputs"], "new")
            for id in pq.read_table(open_file(file))["transaction_id"].to_pylist()
        ]
        assert ids == said["ids"]
        found[name] = ids
    return found


def check_readers(place: Path | str, *, earlier: bool) -> None:
    """Check that a partition is as its record says, and never less than it was."""
    ids = there(place).get("day")
    assert ids in (["a"], ["b", "c"]) or (ids is None and not earlier)
    left = outputs_at(place, "reader").read("manifest.json")
    assert left is None or json.loads(left) in (["a"], ["b", "c"])


def check_next(place: Path | str) -> None:
    """Check that the next run replaces whatever is there, and leaves nothing hidden."""
    run(place, "r3", "d")
    assert there(place) == {"day": ["d"]}
    names = store_at(place).list("**")
    assert [name for name in names if "/." in f"/{name}"] == []
    if isinstance(place, str):
        # What no record names is gone.
        assert len([name for name in names if name.endswith(".parquet")]) == 1


@pytest.mark.parametrize("earlier", [False, True])
def test_a_run_that_is_killed_at_any_step_leaves_whole_partitions(
    places: Places, earlier: bool
) -> None:
    for step in itertools.count():
        place = places()
        if earlier:
            run(place, "r1", "a")
        killed = run_and_die_at(step, lambda place=place: run(place, "r2", "b", "c"))
        # A move of directories has a moment without either; an object has none.
        check_readers(place, earlier=earlier and isinstance(place, str))
        if not killed:
            assert step > 5
            return
        check_next(place)


def test_a_full_disk_leaves_whole_partitions(
    places: Places, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    for step in itertools.count():
        place = places()
        run(place, "r1", "a")
        with full_disk_at(step) as refused:
            error = failure_of(place)
            assert error is None or error.code == Code.OUTPUT_UNWRITABLE
        check_readers(place, earlier=isinstance(place, str))
        if not refused():
            assert step > 5
            return
        check_next(place)


def test_two_runs_do_not_write_beside_each_other(places: Places) -> None:
    place = places()
    with outputs_at(place, "r1").writing(), fails(Code.OUTPUT_IN_USE, str(place)):
        run(place, "r2", "a")
    # The one that was refused leaves nothing, and the other gives the place back.
    run(place, "r3", "a")
    assert [name for name in store_at(place).list("*/*") if name.startswith(".")] == []


def test_results_of_another_command_are_left_alone(places: Places) -> None:
    place = places()
    if isinstance(place, Path):
        (place / "scores").mkdir(parents=True)
    else:
        ObjectStore(place).write("scores/part-1.parquet", b"")
    with fails(Code.OUTPUT_OCCUPIED, "scores"):
        outputs_at(place, "r1").check()


class TestUrl:
    """What differs where there are no renames and no locks."""

    URL = "kept://bucket/out"

    @pytest.fixture(autouse=True)
    def _kept(self, objects: Path) -> None:
        pass

    def test_attempts_at_one_partition_do_not_mix(self) -> None:
        outputs = RescoreObjects(self.URL, "r1")
        with outputs.writing():
            publish(outputs, "a")
            publish(outputs, "a")
            # Both are there until the end; the record names those of one.
            assert len(ObjectStore(self.URL).list("partitions/day/scores/*")) == 2
            assert there(self.URL) == {"day": ["a"]}
        assert len(ObjectStore(self.URL).list("partitions/day/scores/*")) == 1

    def test_a_partition_that_lacks_a_file_is_absent(self) -> None:
        run(self.URL, "r1", "a")
        store = ObjectStore(self.URL)
        store.remove(store.list("partitions/day/scores/*"))
        assert there(self.URL) == {}

    def test_a_run_that_was_taken_over_publishes_nothing_more(self) -> None:
        first = RescoreObjects(self.URL, "r1")
        store = ObjectStore(self.URL)
        with first.writing():
            gone = LeaseRecord(".rescoring-r1", "elsewhere", 1, time.time() - 600, "writing")
            store.write(".rescoring-r1/lease.json", msgspec.json.encode(gone))
            with RescoreObjects(self.URL, "r2").writing():
                with fails(Code.OUTPUT_IN_USE, "r1"):
                    publish(first, "a")
                with fails(Code.OUTPUT_IN_USE, "r1"):
                    first.write("summary.json", b"{}")
                assert there(self.URL) == {}
        run(self.URL, "r3", "c")
        assert there(self.URL) == {"day": ["c"]}

    def test_the_lease_of_a_run_on_another_machine_lasts_two_minutes(self) -> None:
        store = ObjectStore(self.URL)
        for age, code in ((30, Code.OUTPUT_IN_USE), (150, None)):
            other = LeaseRecord(".rescoring-r1", "far 1 2", 1, time.time() - age, "writing")
            store.write(".rescoring-r1/lease.json", msgspec.json.encode(other))
            store.write(".rescoring-r1/failed-day.json", b"{}")
            if code is None:
                run(self.URL, "r2", "a")
            else:
                with fails(code, "far"):
                    run(self.URL, "r2", "a")
        assert store.list(".rescoring-*/**") == []

    def test_of_runs_that_start_at_once_one_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_LOOK", 0.01)
        store = ObjectStore(self.URL)
        for number in range(10):
            barrier, outcomes = threading.Barrier(3), []

            def start(
                lease: Lease,
                barrier: threading.Barrier = barrier,
                outcomes: list[Code | None] = outcomes,
            ) -> None:
                barrier.wait()
                try:
                    lease.acquire()
                    outcomes.append(None)
                except FraudError as error:
                    outcomes.append(error.code)

            names = [f".rescoring-{number}{letter}" for letter in "abc"]
            leases = [Lease(store, name, "--out") for name in names]
            threads = [threading.Thread(target=start, args=(lease,)) for lease in leases]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for lease in leases:
                lease.release()
            assert sorted(outcomes, key=str) == [Code.OUTPUT_IN_USE, Code.OUTPUT_IN_USE, None]

    def test_a_lease_that_vanishes_while_it_is_read_is_not_there(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = ObjectStore(self.URL)
        store.write(".rescoring-r1/lease.json", b"{}")

        def vanish(objects: KeptObjects, path: str, *options: Any, **named: Any) -> NoReturn:
            objects.delete([path])
            raise BeamIOError("not found")

        monkeypatch.setattr(KeptObjects, "open", vanish)
        assert leases(store, ".rescoring-*") == []
        with pytest.raises(FileNotFoundError):
            store.read(".rescoring-r1/lease.json")

    def test_a_lease_is_renewed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_RENEWAL", 0.01)
        store = ObjectStore(self.URL)
        lease = Lease(store, ".rescoring-r1", "--out")
        lease.acquire()
        try:
            first = store.read(".rescoring-r1/lease.json")
            limit = time.monotonic() + 20
            while store.read(".rescoring-r1/lease.json") == first:
                assert time.monotonic() < limit
        finally:
            lease.release()
        assert store.list("**") == []

    def test_a_full_temporary_directory_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        error = OSError(28, os.strerror(28))
        message = str(RescoreObjects(self.URL, "r1").failure(error))
        assert self.URL in message
        assert os.strerror(28) in message
        assert "temporary" in message or "/tmp" in message

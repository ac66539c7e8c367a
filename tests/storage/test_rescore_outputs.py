"""A partition of a rescore is complete or absent, wherever its run is killed or the disk full."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.stages import SCORED
from beam_fraud.storage.batch_outputs import SCORES
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from beam_fraud.storage.rescore_outputs import RescoreOutputs
from tests.crash import full_disk_at, run_and_die_at
from tests.failing import fails
from tests.flagged import flagged_batch


def run(place: Path, run_id: str, *ids: str) -> None:
    """Write and publish one partition."""
    outputs = RescoreOutputs(place, run_id)
    with outputs.writing():
        try:
            writer = ParquetBlockWriter(outputs.part("day", SCORES, "new"), SCORED)
            writer.write(flagged_batch(ids))
            writer.close()
        except OSError as error:
            raise outputs.failure(error) from None
        outputs.publish("day", json.dumps(ids).encode())
        outputs.write("manifest.json", json.dumps(ids).encode())


def failure_of(place: Path) -> FraudError | None:
    """Run, and return how that failed."""
    try:
        run(place, "r2", "b", "c")
    except FraudError as error:
        return error
    return None


def check_readers(place: Path) -> None:
    """Check that a partition that is there is as its record says."""
    outputs = RescoreOutputs(place, "reader")
    for name, record in outputs.records().items():
        ids = [
            id
            for file in outputs.scores(name)
            for id in pq.read_table(file, partitioning=None)["transaction_id"].to_pylist()
        ]
        assert ids == json.loads(record)
    left = outputs.read("manifest.json")
    assert left is None or json.loads(left) in (["a"], ["b", "c"])


def check_next(place: Path) -> None:
    """Check that the next run replaces whatever is there, and leaves nothing hidden."""
    run(place, "r3", "d")
    assert RescoreOutputs(place, "reader").records() == {"day": b'["d"]'}
    check = [path.name for path in place.rglob("*") if path.name.startswith(".")]
    assert check == []


@pytest.mark.parametrize("earlier", [False, True])
def test_a_run_that_is_killed_at_any_step_leaves_whole_partitions(
    tmp_path: Path, earlier: bool
) -> None:
    for step in itertools.count():
        place = tmp_path / str(step)
        if earlier:
            run(place, "r1", "a")
        killed = run_and_die_at(step, lambda place=place: run(place, "r2", "b", "c"))
        check_readers(place)
        if not killed:
            assert step > 5
            return
        check_next(place)
        shutil.rmtree(place)


def test_a_full_disk_leaves_whole_partitions(tmp_path: Path) -> None:
    for step in itertools.count():
        place = tmp_path / str(step)
        run(place, "r1", "a")
        with full_disk_at(step) as refused:
            error = failure_of(place)
            assert error is None or error.code == Code.OUTPUT_UNWRITABLE
        check_readers(place)
        if not refused():
            assert step > 5
            return
        check_next(place)


def test_two_runs_do_not_write_beside_each_other(tmp_path: Path) -> None:
    with RescoreOutputs(tmp_path / "out", "r1").writing(), fails(Code.OUTPUT_IN_USE):
        run(tmp_path / "out", "r2", "a")


def test_results_of_another_command_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out/scores").mkdir(parents=True)
    with fails(Code.OUTPUT_OCCUPIED, "scores"):
        RescoreOutputs(tmp_path / "out", "r1").check()

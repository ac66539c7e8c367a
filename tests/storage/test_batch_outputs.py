import json
import os
import pickle
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.errors import FraudError
from beam_fraud.schema.stages import DEAD_LETTER, SCORED
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, SCORES, RunOutputs, new_run_id
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from tests.flagged import flagged_batch


def _write(outputs, *ids):
    # Unpickled, as in a worker.
    part = pickle.loads(pickle.dumps(outputs)).part(SCORES)
    writer = ParquetBlockWriter(part, SCORED)
    writer.write(flagged_batch(ids))
    writer.close()


def _run(directory, run_id, *ids):
    outputs = RunOutputs(directory, run_id)
    outputs.begin()
    for key in ids:
        _write(outputs, key)
    outputs.publish()
    outputs.write_summary({"run": run_id})


def _scores(directory):
    return sorted(pq.read_table(directory / SCORES)["transaction_id"].to_pylist())


def _summary(directory):
    path = directory / "summary.json"
    return json.loads(path.read_text())["run"] if path.exists() else None


@pytest.fixture
def out(tmp_path):
    return tmp_path / "deep" / "out"


def test_a_run_leaves_its_branches_and_its_summary(out):
    _run(out, "r1", "a", "b")
    assert sorted(path.name for path in out.iterdir()) == [DEAD_LETTERS, SCORES, "summary.json"]
    assert _scores(out) == ["a", "b"]
    assert _summary(out) == "r1"


def test_a_branch_without_rows_can_be_read(out):
    _run(out, "r1", "a")
    table = pq.read_table(out / DEAD_LETTERS)
    assert (table.num_rows, table.schema.equals(DEAD_LETTER)) == (0, True)


def test_a_later_run_replaces_all_of_an_earlier_one(out):
    _run(out, "r1", "a", "b", "c")
    _run(out, "r2", "d")
    assert _scores(out) == ["d"]
    assert len(list((out / SCORES).iterdir())) == 1


def test_the_earlier_outputs_are_visible_during_a_run(out):
    _run(out, "r1", "a")
    second = RunOutputs(out, "r2")
    second.begin()
    _write(second, "b")
    assert (_scores(out), _summary(out)) == (["a"], "r1")


def test_a_failed_run_leaves_everything_as_it_was(out):
    _run(out, "r1", "a")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    failed = RunOutputs(out, "r2")
    failed.begin()
    _write(failed, "b")
    failed.abandon()
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_other_files_beside_the_branches_stay(out):
    out.mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    _run(out, "r1", "a")
    assert (out / "notes.txt").read_text() == "mine"


def test_a_summary_is_visible_only_with_its_files(out):
    _run(out, "r1", "a")
    second = RunOutputs(out, "r2")
    second.begin()
    second.publish()
    assert _summary(out) is None


def test_an_unfinished_part_is_not_published(out):
    outputs = RunOutputs(out, "r1")
    outputs.begin()
    ParquetBlockWriter(outputs.part(SCORES), SCORED).write(flagged_batch(["half"]))
    outputs.publish()
    assert _scores(out) == []
    assert [path.suffix for path in (out / SCORES).iterdir()] == [".parquet"]


def test_only_the_staging_of_a_killed_run_is_removed(out):
    def killed():
        outputs = RunOutputs(out, "killed")
        outputs.begin()
        _write(outputs, "x")
        os._exit(9)

    if (child := os.fork()) == 0:
        killed()
    os.waitpid(child, 0)
    assert RunOutputs(out, "killed").staging.exists()

    living = RunOutputs(out, "living")
    living.begin()
    _write(living, "a")
    assert not RunOutputs(out, "killed").staging.exists()

    with pytest.raises(FraudError, match="a run is writing there"):
        RunOutputs(out, "other").begin()
    living.publish()
    assert _scores(out) == ["a"]
    _run(out, "other", "b")
    assert _scores(out) == ["b"]


def test_the_next_run_repairs_a_failed_publication(out, monkeypatch):
    _run(out, "r1", "a")
    second = RunOutputs(out, "r2")
    second.begin()
    _write(second, "b")
    real = Path.rename

    def refuse(self, target):
        if Path(target) == out / SCORES:
            raise OSError(5, "Input/output error")
        return real(self, target)

    with monkeypatch.context() as failing:
        failing.setattr(Path, "rename", refuse)
        with pytest.raises(FraudError, match="Input/output error"):
            second.publish()
    second.abandon()
    RunOutputs(out, "r3").begin()
    assert _scores(out) == ["b"]


def test_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("x")
    for directory in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(FraudError, match="out is a file") as refused:
            RunOutputs(directory, "r").check()
        assert "\n" not in str(refused.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_out_that_is_not_writable_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FraudError, match="Permission denied"):
        RunOutputs(tmp_path / "out", "r").check()


def test_out_on_a_read_only_file_system_is_refused():
    with pytest.raises(FraudError, match="cannot write to /proc"):
        RunOutputs(Path("/proc/out"), "r").check()


def test_check_leaves_no_file(tmp_path):
    RunOutputs(tmp_path / "out", "r").check()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["data.csv", "part-0.parquet", "part-1.parquet"])
def test_foreign_files_in_a_branch_are_refused_and_stay(out, name):
    (out / SCORES).mkdir(parents=True)
    foreign = out / SCORES / name
    if name == "part-0.parquet":
        pq.write_table(pa.table({"x": [1]}), foreign)
    else:
        foreign.write_text("x,y\n")
    with pytest.raises(FraudError, match=name):
        RunOutputs(out, "r").begin()
    assert foreign.exists()


def test_a_foreign_file_that_comes_during_the_run_stops_publishing(out):
    outputs = RunOutputs(out, "r")
    outputs.begin()
    (out / SCORES).mkdir()
    (out / SCORES / "mine.csv").write_text("x")
    with pytest.raises(FraudError, match=r"mine\.csv"):
        outputs.publish()
    assert (out / SCORES / "mine.csv").exists()


def test_a_summary_that_cannot_be_written_leaves_the_old_one(out):
    _run(out, "r1", "a")
    with pytest.raises(TypeError):
        RunOutputs(out, "r2").write_summary({"bad": object()})
    assert _summary(out) == "r1"
    assert not list(out.glob(".summary*"))


def test_a_run_that_was_overtaken_leaves_no_summary(out):
    first, second = RunOutputs(out, "r1"), RunOutputs(out, "r2")
    first.begin()
    _write(first, "r1")
    first.publish()
    assert first.write_summary({"run": "r1"})
    assert first.write_summary({"run": "r1"})
    second.begin()
    _write(second, "r2")
    second.publish()
    assert not first.write_summary({"run": "r1"})
    assert _summary(out) is None
    assert second.write_summary({"run": "r2"})
    assert not first.write_summary({"run": "r1"})
    assert (_summary(out), _scores(out)) == ("r2", ["r2"])


def test_a_summary_is_not_written_while_another_run_publishes(out, monkeypatch):
    _run(out, "r1", "a")
    first, second = RunOutputs(out, "r1"), RunOutputs(out, "r2")
    second.begin()
    _write(second, "b")
    written = []
    real = Path.rename

    def slow(self, target):
        if Path(target) == out / SCORES:
            late = threading.Thread(
                target=lambda: written.append(first.write_summary({"run": "r1"}))
            )
            late.start()
            late.join(0.3)
            assert late.is_alive()
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", slow)
        second.publish()
    assert second.write_summary({"run": "r2"})
    while not written:
        time.sleep(0.01)
    assert (written, _summary(out)) == ([False], "r2")


def test_a_half_written_summary_of_a_killed_run_is_removed(out):
    _run(out, "r1", "a")
    (out / ".summary.json-killed").write_text('{"run"')
    _run(out, "r2", "b")
    assert not list(out.glob(".summary*"))


def test_of_simultaneous_runs_one_at_a_time_works(out):
    children = []
    for number in range(8):
        if (child := os.fork()) == 0:
            try:
                for again in range(20):
                    outputs = RunOutputs(out, f"r{number}-{again}")
                    try:
                        outputs.begin()
                    except FraudError as refused:
                        if "a run is writing there" not in str(refused):
                            raise
                        continue
                    assert len(list(out.glob(".incoming-*"))) == 1
                    outputs.part(SCORES).touch()
                    outputs.abandon()
            except BaseException:
                os._exit(1)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    assert list(out.iterdir()) == []


def test_run_ids_differ():
    assert len({new_run_id() for _ in range(50)}) == 50

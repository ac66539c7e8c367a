import itertools

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.stages import SCORED
from beam_fraud.sinks.parquet import ParquetSink
from beam_fraud.storage.checkpoint import LocalCheckpoint
from beam_fraud.storage.stream_outputs import claim_archives
from tests.crash import run_and_die_at
from tests.failing import fails
from tests.flagged import flagged_batch


def _run(sink, run_id, *batches):
    sink.begin(run_id)
    for batch in batches:
        writer = sink.open(run_id)
        writer.write(batch)
        writer.close()
    sink.commit(run_id)


def _ids(sink):
    return sorted(pq.read_table(sink.directory)["transaction_id"].to_pylist())


@pytest.fixture
def sink(tmp_path):
    return ParquetSink(tmp_path / "flagged")


def test_rows_appear_only_when_the_run_has_succeeded(sink):
    _run(sink, "r1", flagged_batch(["old"]))
    sink.begin("r2")
    writer = sink.open("r2")
    writer.write(flagged_batch(["new"]))
    writer.close()
    assert _ids(sink) == ["old"]
    sink.commit("r2")
    assert _ids(sink) == ["new"]
    assert [path.suffix for path in sink.directory.iterdir()] == [".parquet"]


def test_a_run_without_rows_leaves_an_empty_file_with_the_schema(sink):
    _run(sink, "r1", flagged_batch(["old"]))
    _run(sink, "r2")
    assert pq.read_table(sink.directory).num_rows == 0
    assert pq.read_table(sink.directory).schema.equals(SCORED)


def test_a_part_that_was_not_finished_is_not_published(sink):
    sink.begin("r1")
    sink.open("r1").write(flagged_batch(["half"]))
    sink.commit("r1")
    assert _ids(sink) == []


@pytest.mark.parametrize("name", ["notes.txt", "part-0.parquet", "scores"])
def test_foreign_files_are_never_changed(sink, name):
    sink.directory.mkdir()
    foreign = sink.directory / name
    if name == "scores":
        foreign.mkdir()
    elif name == "notes.txt":
        foreign.write_text("mine")
    else:
        pq.write_table(pa.table({"x": [1]}), foreign)
    with pytest.raises(FraudError, match=name):
        sink.check()
    assert foreign.exists()


def test_a_foreign_file_that_comes_during_the_run_stops_the_commit(sink):
    _run(sink, "r1", flagged_batch(["old"]))
    sink.begin("r2")
    (sink.directory / "notes.txt").write_text("mine")
    with fails(Code.OUTPUT_OCCUPIED, r"notes\.txt"):
        sink.commit("r2")
    sink.discard("r2")
    (sink.directory / "notes.txt").unlink()
    assert _ids(sink) == ["old"]


def test_a_commit_killed_at_any_step_is_undone_or_finished_by_the_next_run(tmp_path):
    for step in itertools.count():
        sink = ParquetSink(tmp_path / str(step))
        _run(sink, "r1", flagged_batch(["a"]), flagged_batch(["b"]))

        def second(sink=sink):
            _run(sink, "r2", flagged_batch(["c"]), flagged_batch(["d"]))

        killed = run_and_die_at(step, second)
        sink.begin("r3")
        assert _ids(sink) in (["a", "b"], ["c", "d"])
        sink.discard("r3")
        if not killed:
            assert _ids(sink) == ["c", "d"]
            break
    assert step > 5


def test_only_the_stream_adopts_its_unfinished_parts(sink):
    sink.directory.mkdir()
    part = sink.directory / ".part-000-0123456789ab.unfinished"
    part.write_bytes(b"PAR1")
    with fails(Code.OUTPUT_IN_USE, "--sink"):
        sink.begin("r1")
    stream = sink.streaming(here=True)
    stream.check()
    (sink.directory / ".part-mine.unfinished").touch()
    with fails(Code.OUTPUT_OCCUPIED, r"\.part-mine\.unfinished"):
        stream.check()
    assert part.exists()


def test_a_second_stream_leaves_the_unfinished_parts_of_the_first(sink, tmp_path):
    sink.directory.mkdir()
    checkpoint = LocalCheckpoint(tmp_path / "first/state.db")
    claim_archives([sink.directory], tmp_path, checkpoint)
    (sink.directory / ".part-000-0123456789ab.unfinished").touch()
    claim_archives([sink.directory], tmp_path, checkpoint)
    checkpoint.close()
    for other in (LocalCheckpoint(tmp_path / "second/state.db"), None):
        with fails(Code.OUTPUT_OCCUPIED):
            claim_archives([sink.directory], tmp_path, other)

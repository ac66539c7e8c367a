"""Outputs at a URL, with a stand-in for Cloud Storage: complete or unchanged."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import features, score
from beam_fraud.cli.options import FeaturesOptions, ScoreOptions
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.hashing import UNKEYED, IdHash
from beam_fraud.schema.stages import SCORED
from beam_fraud.state.archive import ArchiveShard
from beam_fraud.state.identity import remember, taken_up
from beam_fraud.storage import objects
from beam_fraud.storage.batch_outputs import RunOutputs
from beam_fraud.storage.stream_outputs import object_stream_outputs
from tests.cli.test_commands_score import bundle
from tests.failing import fails
from tests.flagged import flagged_batch
from tests.requirements import need_module

OUT = "gs://bucket/out"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    need_module("google.cloud.storage", "gcp")
    from tests.google_stand_in import GoogleStandIn, running

    directory = tmp_path_factory.mktemp("account")
    with (
        running(directory, GoogleStandIn()) as (held, environment),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        yield held


@pytest.fixture
def held(server: Any) -> Any:
    """The stand-in, empty."""
    with server.lock:
        for of in (server.objects, server.requests, server.refusals):
            of.clear()
    return server


@pytest.fixture
def options(tmp_path: Path) -> ScoreOptions:
    file = tmp_path / "day.csv"
    file.write_text("id,t,a\n" + "".join(f"x{i},2024-01-0{i}T00:00:00Z,{i}\n" for i in range(1, 6)))
    return ScoreOptions(files=(str(file),), model=bundle(tmp_path / "model"), out=OUT)


def names(held: Any) -> list[str]:
    return sorted(key.removeprefix("bucket/out/") for key in held.objects if "/out/" in key)


def table(held: Any, branch: str) -> list[dict[str, Any]]:
    parts = [data for key, data in held.objects.items() if key.startswith(f"bucket/out/{branch}/")]
    return [row for part in parts for row in pq.read_table(io.BytesIO(part)).to_pylist()]


def test_a_run_replaces_the_last_one_and_writes_its_summary_last(
    held: Any, options: ScoreOptions
) -> None:
    score.run(options)
    before = names(held)
    summary = score.run(options)
    after = names(held)
    assert [name.split("/")[0] for name in after] == ["dead_letters", "scores", "summary.json"]
    assert set(before) & set(after) == {"summary.json"}
    assert len(table(held, "scores")) == 5
    assert table(held, "dead_letters") == []
    assert json.loads(held.objects["bucket/out/summary.json"]) == summary


def test_a_failed_run_leaves_the_earlier_outputs(held: Any, options: ScoreOptions) -> None:
    score.run(options)
    before = dict(held.objects)
    held.refuse("POST .*copyTo", 403, times=10)
    with pytest.raises(Exception, match=r"--out gs://bucket/out: cannot be written \(.*Refused"):
        score.run(options)
    assert {key: held.objects.get(key) for key in before if "summary" not in key} == {
        key: data for key, data in before.items() if "summary" not in key
    }
    assert [name for name in names(held) if ".incoming" in name] == []


def test_features_with_windows_come_out_as_on_a_disk(
    held: Any, options: ScoreOptions, tmp_path: Path
) -> None:
    schema = tmp_path / "schema.toml"
    schema.write_text(
        'name = "s"\n[roles]\ntransaction_id = "id"\nevent_time = "t"\namount = "a"\n'
        'account_id = "id"\n[[velocity]]\nkey = "account_id"\nwindows = ["7d"]\n'
        'aggregates = ["count"]\n'
    )
    arguments = FeaturesOptions(files=options.files, schema=str(schema), out=OUT)
    features.run(arguments)
    features.run(replace(arguments, out=str(tmp_path / "out")))
    expected = pq.read_table(tmp_path / "out/features").to_pylist()
    assert sorted(map(str, table(held, "features"))) == sorted(map(str, expected))


def test_publishing_again_changes_nothing(held: Any) -> None:
    outputs = RunOutputs(OUT, "r1")
    outputs.begin()
    stored, dropped = outputs.part("scores"), outputs.part("scores")
    for part in (stored, dropped):
        objects.write(part, b"rows")
    for _ in range(2):
        outputs.publish_parts({"scores": [stored.rpartition("/")[2]]})
    assert names(held) == ["dead_letters/part-r1-empty.parquet", f"scores/{Path(stored).name}"]


def test_a_second_run_at_once_is_refused(held: Any) -> None:
    first, second = RunOutputs(OUT, "r1"), RunOutputs(OUT, "r2")
    first.begin()
    with fails(Code.OUTPUT_IN_USE, "--out gs://bucket/out"):
        second.begin()
    assert names(held) == [".incoming-r1/lease.json"]
    first.publish_parts({})
    first.publish()
    second.begin()
    second.abandon()
    # A template is only written: this process does not await its jobs.
    RunOutputs(OUT, "r3").begin(attended=False)
    first.begin()
    first.abandon()
    assert names(held)[0] == ".incoming-r3/started"


def test_a_run_does_not_replace_a_later_publication(held: Any) -> None:
    first, second = RunOutputs(OUT, "r1"), RunOutputs(OUT, "r2")
    first.publish_parts({})
    second.publish_parts({})
    assert not first.write_summary({})
    assert second.write_summary({})
    # Both at once: neither has seen what the other was about to move there.
    objects.write(f"{OUT}/scores/part-r1-x.parquet", b"rows")
    assert not second.write_summary({})


def test_a_run_with_rows_of_another_run_beside_its_own_fails(
    held: Any, options: ScoreOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = RunOutputs.publish

    def both(self: RunOutputs) -> None:
        publish(self)
        objects.write(f"{OUT}/scores/part-r1-x.parquet", b"rows")

    monkeypatch.setattr(RunOutputs, "publish", both)
    with pytest.raises(FraudError, match=r"--out gs://bucket/out: another run has replaced"):
        score.run(options)
    assert "summary.json" not in names(held)


def test_too_many_dead_letters_leave_the_earlier_outputs(held: Any, options: ScoreOptions) -> None:
    score.run(options)
    before = dict(held.objects)
    file = Path(options.files[0])
    file.write_text(file.read_text() + "bad,2024-01-01,ten\n")
    with pytest.raises(
        FraudError, match=r"1 of 6 records are dead letters.*first: day\.csv line 7: a"
    ):
        score.run(replace(options, max_dead=0.1))
    file.write_text("id,t,a\nbad,2024-01-01,ten\n")
    with pytest.raises(FraudError, match=r"none of 1 records is a transaction"):
        score.run(options)
    assert dict(held.objects) == before


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ("scores/notes.txt", "scores/notes.txt was not written by a run and would be replaced"),
        ("scores/more/part-1.parquet", "was not written by a run"),
        ("stream/state.db", "has files of a stream"),
    ],
)
def test_foreign_objects_are_not_changed(held: Any, there: str, message: str) -> None:
    held.objects[f"bucket/out/{there}"] = b"mine"
    with pytest.raises(FraudError, match=message):
        RunOutputs(OUT, "r").begin()
    assert names(held) == [there]


def test_a_missing_bucket_is_one_line(held: Any) -> None:
    with pytest.raises(FraudError, match=r"^--out gs://other/out: cannot be listed \(") as message:
        RunOutputs("gs://other/out", "r").check()
    assert "\n" not in str(message.value)


def test_an_unknown_scheme_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"^--out ftp://x/y: no file system knows ftp"):
        RunOutputs("ftp://x/y", "r").check()


@pytest.mark.parametrize("read", [OUT, f"{OUT}/scores", "gs://bucket", f"{OUT}/*.csv"])
def test_a_run_does_not_read_its_outputs(options: ScoreOptions, read: str) -> None:
    with pytest.raises(UsageError, match="is among the files to read"):
        score.run(replace(options, files=(read,)))


def test_alerts_need_a_database_elsewhere(options: ScoreOptions) -> None:
    with pytest.raises(UsageError, match="--alert: alerts wait in a database, and --out gs://"):
        score.run(replace(options, alerts=("console:",)))


def test_an_archive_of_a_stream_has_each_row_once_after_a_worker_is_lost(held: Any) -> None:
    first = ArchiveShard(OUT, SCORED, 3, rows=1000, seconds=60)
    first.restore([])
    stored = [delta.data for delta in first.take(flagged_batch(["a", "b"])).deltas]
    # It uploads, and dies before the runner has kept that.
    first.finish()
    assert len(names(held)) == 1
    held.objects["bucket/out/part-004-00000000-x.parquet"] = b"of another shard"
    second = ArchiveShard(OUT, SCORED, 3, rows=1000, seconds=60)
    second.restore(stored)
    assert names(held) == ["part-004-00000000-x.parquet"]
    number = [delta.data for delta in second.finish().deltas]
    del held.objects["bucket/out/part-004-00000000-x.parquet"]
    (data,) = held.objects.values()
    assert pq.read_table(io.BytesIO(data))["transaction_id"].to_pylist() == ["a", "b"]
    third = ArchiveShard(OUT, SCORED, 3, rows=1000, seconds=60)
    third.restore(number)
    assert len(names(held)) == 1


def test_an_unwritable_archive_is_one_line(held: Any) -> None:
    shard = ArchiveShard(OUT, SCORED, 0, rows=1000, seconds=60)
    shard.restore([])
    shard.take(flagged_batch(["a"]))
    held.refuse("upload", 403, times=100)
    with pytest.raises(FraudError, match=r"^gs://bucket/out: cannot be written .*nothing is lost"):
        shard.finish()


def test_the_description_of_a_stream_is_stored_at_its_url(held: Any) -> None:
    hashing = IdHash.random()
    outputs = object_stream_outputs(OUT, update=True)
    assert taken_up(outputs, {}) == UNKEYED
    remember(outputs, {"number of shards": "16"}, hashing, restored=False)
    again = object_stream_outputs(OUT, update=True)
    assert taken_up(again, {"number of shards": "16"}) == hashing
    with pytest.raises(FraudError, match="gs://bucket/out holds a stream with another number"):
        taken_up(again, {"number of shards": "8"})

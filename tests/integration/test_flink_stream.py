"""A stream on a Flink cluster keeps its state through kills, a savepoint, more workers."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands.train import run as train
from beam_fraud.cli.options import TrainOptions
from beam_fraud.models.bundle import load_bundle
from beam_fraud.models.registry.registry import add_model, open_registry, promote
from beam_fraud.storage.urls import Place
from deploy.flink.cluster import FlinkCluster
from deploy.kafka.broker import Broker
from tests.integration.flink_usage import await_checkpoints, residuals, usage, workers
from tests.models.registering import ANN, other
from tests.outcome import Outcome, assert_counted, assert_each_once, assert_same, outcome
from tests.stream_process import UNTIL_IDLE, Stream, archived, stream_command, wait_until
from tests.traffic import Feed, Traffic, make_traffic

PARTITIONS = 4
#: Checkpoints, one a second, after which states are counted.
LOOKS = 4


@pytest.fixture
def seed() -> int:
    """A random seed; a failing test prints it, and CHAOS_SEED repeats it."""
    chosen = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"CHAOS_SEED={chosen}")
    return chosen


class Scored:
    """A topic of one traffic with its history."""

    def __init__(self, broker: Broker, bundle: Path, directory: Path, traffic: Traffic) -> None:
        self.topic = f"transactions-{directory.name}"
        self._broker, self.bundle, self._directory = broker, bundle, directory
        broker.create_topic(self.topic, PARTITIONS)
        self.traffic = traffic
        self.feed = Feed(broker, self.topic, traffic)
        pq.write_table(traffic.history, directory / "history.parquet")

    def out(self, name: str) -> Path:
        return self._directory / name

    def stream(self, name: str, *options: str, bundle: Path | None = None) -> Stream:
        """Return a stream that writes to a directory of this name.

        Args:
          name: of the directory.
          options: further ones; `--registry` stands in place of the bundle.
          bundle: the model, or None for that of all streams.
        """
        out, database = self.out(name), self._directory / f"{name}.db"
        history = ("--history", str(self._directory / "history.parquet"), "--lateness", "1d")
        places = ("--sink", f"sqlite:///{database}", "--roll-seconds=1")
        places += ("--monitor", "--keep-features")
        # Of one channel: its name is in every alert.
        places += ("--alert", f"file:{self._directory / 'alerts.jsonl'}")
        model = bundle or self.bundle
        command = stream_command(self._broker, self.topic, model, out, *history, *places)
        if "--registry" in options:
            place = command.index("--model")
            del command[place : place + 2]
        return Stream([*command, *options], out)

    def rows(self) -> int:
        """Return the rows that a stream makes of the whole traffic."""
        return self.traffic.transactions + self.traffic.bad

    def outcome(self, name: str) -> Outcome:
        return outcome(self.out(name), f"sqlite:///{self._directory / name}.db")

    def reference(self, bundle: Path | None = None) -> Outcome:
        """The output of an undisturbed stream without a cluster."""
        name = f"reference-{(bundle or self.bundle).name}"
        stream = self.stream(name, *UNTIL_IDLE, bundle=bundle)
        stream.start()
        stream.wait_for_end()
        return self.outcome(name)


def on_flink(cluster: FlinkCluster, parallelism: int) -> tuple[str, ...]:
    shared = (f"--parallelism={parallelism}", "--checkpointing_interval=1000", "--shards=4")
    return (*cluster.beam_options, *shared)


def kill_a_worker(cluster: FlinkCluster) -> None:
    assert wait_until(lambda: bool(workers(cluster)))
    os.kill(workers(cluster)[0], signal.SIGKILL)


def kill_the_task_manager(cluster: FlinkCluster) -> None:
    cluster.parts["task manager 1"].kill()
    cluster.start_task_manager(1)


def check_residuals(stream: Stream, cluster: FlinkCluster) -> None:
    """Check that residuals of the source share a state, and that no consumer is left over."""
    assert stream.wait_until(lambda: bool(residuals(cluster))), stream.said()
    # The source ends some bundles a second, each with a residual of each partition.
    await_checkpoints(cluster, LOOKS)
    assert len(set(residuals(cluster))) == 1
    assert usage(cluster).clients <= PARTITIONS


def survive(
    scored: Scored, cluster: FlinkCluster, worker_kills: int, task_manager_kills: int, seed: int
) -> None:
    """Kill parts of the cluster while a stream runs; compare with an undisturbed stream."""
    draw = random.Random(seed)
    kills = [kill_a_worker] * worker_kills + [kill_the_task_manager] * task_manager_kills
    draw.shuffle(kills)
    messages = len(scored.traffic.keys)
    part = messages // (len(kills) + 2)
    out = scored.out("disturbed")
    stream = scored.stream("disturbed", *on_flink(cluster, 2))
    try:
        stream.start()
        scored.feed.send(part)
        check_residuals(stream, cluster)
        for kill in kills:
            before = archived(out)
            scored.feed.send_for(draw.uniform(0.5, 2.0), part)
            assert wait_until(lambda before=before: archived(out) > before), stream.said()
            kill(cluster)
            assert stream.runs, stream.said()
        scored.feed.finish()
        assert stream.wait_until(lambda: archived(out) >= scored.rows())
        stream.stop()
        stream.wait_for_end()
    finally:
        stream.kill()
    reference = scored.reference()
    assert len(reference.flagged) > 10, "the comparison must be about something"
    assert_each_once(reference, scored.traffic)
    result = scored.outcome("disturbed")
    assert_each_once(result, scored.traffic)
    assert_same(result, reference)
    assert assert_counted(out, scored.bundle) == scored.traffic.transactions


@pytest.mark.soak
def test_a_killed_worker_and_a_killed_task_manager_change_nothing(
    broker: Broker, cluster: FlinkCluster, bundle: Path, tmp_path: Path, seed: int
) -> None:
    scored = Scored(broker, bundle, tmp_path, make_traffic(seed, accounts=1_000, bad=100))
    survive(scored, cluster, worker_kills=1, task_manager_kills=1, seed=seed)


@pytest.mark.soak
def test_five_killed_workers_and_two_killed_task_managers_change_nothing(
    broker: Broker, cluster: FlinkCluster, bundle: Path, tmp_path: Path, seed: int
) -> None:
    scored = Scored(broker, bundle, tmp_path, make_traffic(seed, accounts=30_000, bad=5_000))
    survive(scored, cluster, worker_kills=5, task_manager_kills=2, seed=seed)


@pytest.fixture
def other_bundle(bundle: Path, tmp_path: Path) -> Path:
    """Another model of the same features, whose scores do not depend on blocks."""
    month = bundle.parent / "month.parquet"
    options = TrainOptions(
        files=(str(month),),
        schema="handbook",
        model="extra_trees",
        settings=("trees=20",),
        out=str(tmp_path / "other"),
    )
    train(options)
    return tmp_path / "other"


def registry_of(directory: Path, *bundles: Path) -> tuple[Place, list[str]]:
    """Return a registry whose champion is the first bundle, and the ids of all."""
    place, ids = Place.at(directory / "registry"), []
    for bundle in bundles:
        model = load_bundle(bundle)
        add_model(place, model, ANN)
        ids.append(model.model_id)
    promote(open_registry(place), ids[0], ANN)
    return place, ids


def models_of(out: Path) -> set[str]:
    """Return the models of the rows that are visible in the archive."""
    models = set[str]()
    for part in out.glob("scores/part-*.parquet"):
        with suppress(FileNotFoundError):
            models |= set(
                pq.read_table(part, columns=["model_id"])["model_id"].unique().to_pylist()
            )
    return models


def promote_under_load(
    scored: Scored, name: str, stream: Stream, place: Place, model: str
) -> float:
    """Promote a model that has not scored yet; return the seconds until its rows are visible."""
    assert stream.wait_until(lambda: model not in models_of(scored.out(name)))
    promote(open_registry(place), model, ANN)
    start = time.monotonic()

    def taken_up() -> bool:
        scored.feed.send_for(0.2, 20)
        return model in models_of(scored.out(name))

    assert stream.wait_until(taken_up), stream.said()
    return time.monotonic() - start


def score_in_two_parts(
    scored: Scored,
    name: str,
    first: Stream,
    stop: Callable[[], str],
    then: Callable[[str], Stream],
    meanwhile: Callable[[Stream], None] = lambda _: None,
) -> None:
    """Score half of the messages by one stream, and the others by a second one that resumes it.

    Args:
      scored: what is scored.
      name: of the directory that both write.
      first: not started yet.
      stop: ends the first one, and tells the savepoint that it leaves.
      then: the second one, of a savepoint.
      meanwhile: called while the second one runs, before the last messages are sent.
    """
    out, streams = scored.out(name), [first]
    try:
        first.start()
        scored.feed.send(len(scored.traffic.keys) // 2)
        assert first.wait_until(lambda: archived(out) > 100), first.said()
        savepoint = stop()
        scored.feed.send(len(scored.traffic.keys) // 8)
        second = then(savepoint)
        streams.append(second)
        second.start()
        meanwhile(second)
        scored.feed.finish()
        assert second.wait_until(lambda: archived(out) >= scored.rows()), second.said()
        second.stop()
        second.wait_for_end()
    finally:
        for each in streams:
            each.kill()


# `test_persisted_savepoint.py` resumes a savepoint in every run of the tests.
@pytest.mark.soak
def test_a_savepoint_resumes_with_more_workers_and_a_registry_that_promotes(
    broker: Broker, flink_cluster: FlinkCluster, bundle: Path, other_bundle: Path, tmp_path: Path
) -> None:
    damaged = other(bundle, tmp_path / "damaged", 0.99)
    place, ids = registry_of(tmp_path, bundle, other_bundle, damaged)
    cluster = flink_cluster
    scored = Scored(broker, bundle, tmp_path, make_traffic(3, accounts=1_000, bad=100))
    first = scored.stream("moved", *on_flink(cluster, 1), "--registry", str(place))

    def stop() -> str:
        (job,) = cluster.jobs("RUNNING")
        savepoint = cluster.stop_with_savepoint(job)
        first.wait_for_end()
        return savepoint

    def then(savepoint: str) -> Stream:
        options = (*on_flink(cluster, 2), f"--savepoint_path={savepoint}")
        # The timers in the savepoint name steps by numbers that a registry changes.
        fixed = scored.stream("moved", *options)
        fixed.start()
        assert fixed.wait_for_code() == 1
        assert "another set of steps (rules, registry, monitor, now monitor)" in fixed.said()
        return scored.stream("moved", *options, "--registry", str(place))

    def promotions(stream: Stream) -> None:
        assert promote_under_load(scored, "moved", stream, place, ids[1]) < 30
        # Damaged after its promotion: what decided before goes on.
        promote(open_registry(place), ids[2], ANN)
        (tmp_path / "registry" / "bundles" / ids[2] / "model.joblib").write_bytes(b"evil")
        alerts = tmp_path / "alerts.jsonl"
        refusal = f"{ids[2]} cannot be taken up"
        assert stream.wait_until(lambda: refusal in alerts.read_text("utf-8")), stream.said()

    score_in_two_parts(scored, "moved", first, stop, then, promotions)
    result = scored.outcome("moved")
    assert_each_once(result, scored.traffic)
    assert set(result.scores["model_id"].to_pylist()) == set(ids[:2])
    assert_counted(scored.out("moved"), bundle, other_bundle)
    # Each row has the score and reasons that its model gives when nothing is ever stopped.
    for model in (bundle, other_bundle):
        reference = scored.reference(model).scores
        same = pc.equal(result.scores["model_id"], reference["model_id"][0])
        ours = result.scores.filter(same)
        assert ours.num_rows > 100
        theirs = pc.is_in(reference["transaction_id"], ours["transaction_id"])
        assert ours.equals(reference.filter(theirs))


@pytest.mark.soak
def test_an_interrupted_stream_resumes_with_the_option_that_it_prints(
    broker: Broker, cluster: FlinkCluster, bundle: Path, tmp_path: Path
) -> None:
    scored = Scored(broker, bundle, tmp_path, make_traffic(4, accounts=1_000, bad=100))
    first = scored.stream("interrupted", *on_flink(cluster, 2))

    def stop() -> str:
        first.stop()
        first.wait_for_end()
        (savepoint,) = re.findall(r"--savepoint_path=(\S+)", first.said())
        return str(savepoint)

    def then(savepoint: str) -> Stream:
        options = (*on_flink(cluster, 2), f"--savepoint_path={savepoint}")
        return scored.stream("interrupted", *options)

    score_in_two_parts(scored, "interrupted", first, stop, then)
    assert_each_once(scored.outcome("interrupted"), scored.traffic)
    assert_counted(scored.out("interrupted"), bundle)


@pytest.mark.soak
def test_five_promotions_and_a_killed_worker_mix_and_lose_nothing(
    broker: Broker, cluster: FlinkCluster, bundle: Path, tmp_path: Path
) -> None:
    thresholds = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    bundles = [other(bundle, tmp_path / f"m{threshold}", threshold) for threshold in thresholds]
    place, ids = registry_of(tmp_path, *bundles)
    scored = Scored(broker, bundle, tmp_path, make_traffic(6, accounts=5_000, bad=100))
    registry = ("--registry", str(place))
    stream, seconds = scored.stream("swapped", *on_flink(cluster, 2), *registry), []
    try:
        stream.start()
        scored.feed.send(1_000)
        assert stream.wait_until(lambda: ids[0] in models_of(scored.out("swapped")))
        for number, model in enumerate(ids[1:]):
            if number == 2:
                kill_a_worker(cluster)
            seconds.append(promote_under_load(scored, "swapped", stream, place, model))
        scored.feed.finish()
        out = scored.out("swapped")
        assert stream.wait_until(lambda: archived(out) >= scored.rows()), stream.said()
        stream.stop()
        stream.wait_for_end()
    finally:
        stream.kill()
    print("seconds from a promotion to visible rows", [round(each, 1) for each in seconds])
    assert max(seconds) < 30
    result, reference = scored.outcome("swapped"), scored.reference()
    assert_each_once(result, scored.traffic)
    columns = ["transaction_id", "score"]
    assert result.scores.select(columns).equals(reference.scores.select(columns))
    assert set(result.scores["model_id"].to_pylist()) == set(ids)
    for model, threshold in zip(ids, thresholds, strict=True):
        own = result.scores.filter(pc.equal(result.scores["model_id"], model))
        flagged = pc.greater_equal(own["score"], threshold)
        assert own["flagged"].equals(flagged)
        # Reasons are there exactly where this model flags.
        assert pc.is_valid(own["reasons"]).equals(flagged)

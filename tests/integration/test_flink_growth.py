"""A stream on Flink uses no more state and memory after an hour than after a minute."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beam_fraud.monitoring.recorder import read_board
from beam_fraud.simulate.simulation import Simulation, simulate
from deploy.flink.cluster import FlinkCluster
from deploy.kafka.broker import Broker
from tests.integration.flink_usage import Usage, residuals, usage
from tests.integration.test_flink_stream import PARTITIONS
from tests.requirements import need_flink
from tests.stream_process import ROOT, Stream, stream_command

#: The soak: seconds before anybody looks, seconds of looking, between two looks, and messages a
#: second of the stream that is not idle.
WARM_UP_SECONDS, SOAK_SECONDS, LOOK_SECONDS, SOAK_RATE = 120.0, 1_800.0, 20.0, 1_000


@pytest.mark.soak
def test_usage_after_an_hour_is_that_after_a_minute(
    broker: Broker, bundle: Path, tmp_path: Path
) -> None:
    """Run an idle stream, and one with `SOAK_RATE` messages a second, at the same time."""
    need_flink()
    rows = int(SOAK_RATE * (WARM_UP_SECONDS + SOAK_SECONDS))
    # Two thousand a day, so that windows are full and empty again before anybody looks.
    table = simulate(Simulation(rows // 2_000 + 2, 1_100, 1_000, seed=9))
    pq.write_table(table, tmp_path / "load.parquet")
    with ThreadPoolExecutor(2) as pool:
        watched = {
            name: pool.submit(_watched, name, broker, bundle, tmp_path, rate)
            for name, rate in (("idle", 0), ("busy", SOAK_RATE))
        }
        looks = {name: future.result() for name, future in watched.items()}
    for name, result in looks.items():
        _tell(name, result)
        early, late = result[: len(result) // 3], result[-len(result) // 3 :]
        assert {look.states for look in result} == {result[0].states}, name
        assert max(look.clients for look in result) <= PARTITIONS, name
        assert mean_of(late, "checkpoint_bytes") <= 1.25 * mean_of(early, "checkpoint_bytes"), name
        assert mean_of(late, "task_manager_bytes") <= 1.1 * mean_of(early, "task_manager_bytes")
        assert mean_of(late, "worker_bytes") <= 1.1 * mean_of(early, "worker_bytes"), name
        assert late[-1].failed_checkpoints == early[0].failed_checkpoints, name
        assert cores(late) <= 1.1 * cores(early) + 0.02, name
    assert cores(looks["idle"]) < 0.1


def mean_of(looks: list[Usage], what: str) -> float:
    return statistics.mean(getattr(look, what) for look in looks)


def cores(looks: list[Usage]) -> float:
    """Return the average number of cores of the task manager and its workers."""
    first, last = looks[0], looks[-1]
    spent = last.task_manager_seconds - first.task_manager_seconds
    return (spent + last.worker_seconds - first.worker_seconds) / (last.at - first.at)


def _watched(name: str, broker: Broker, bundle: Path, directory: Path, rate: int) -> list[Usage]:
    """Measure a stream on its own cluster, after a warm-up."""
    topic, out = f"soak-{name}", directory / name
    broker.create_topic(topic, PARTITIONS)
    looks = list[Usage]()
    with FlinkCluster(directory / f"flink-{name}") as cluster:
        options = (*cluster.beam_options, "--parallelism=2", "--sdk_worker_parallelism=2")
        stream = Stream(
            stream_command(broker, topic, bundle, out, *options, "--checkpointing_interval=10000"),
            out,
        )
        stream.start()
        load: subprocess.Popen[bytes] | None = None
        try:
            assert stream.wait_until(lambda: bool(residuals(cluster))), stream.said()
            if rate:
                load = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "benchmarks.stream_load"),
                        *("--kafka", broker.bootstrap, "--topic", topic),
                        *("--rows", str(directory / "load.parquet"), "--rate", str(rate)),
                        *("--seconds", str(WARM_UP_SECONDS + SOAK_SECONDS)),
                    ],
                    cwd=ROOT,
                )
            time.sleep(WARM_UP_SECONDS)
            end = time.monotonic() + SOAK_SECONDS
            while time.monotonic() < end:
                looks.append(usage(cluster))
                _tell(name, looks[-2:])
                time.sleep(LOOK_SECONDS)
                assert stream.runs, stream.said()
            if rate:
                counters = dict(read_board(out / "stream" / "live").counters)
                assert counters["rows_scored"] > 0.5 * rate * SOAK_SECONDS, stream.said()
        finally:
            if load is not None:
                load.kill()
                load.wait()
            stream.kill()
    return looks


def _tell(name: str, looks: list[Usage]) -> None:
    if len(looks) > 1:
        last = looks[-1]
        print(
            f"{name}: {last.states} states, {cores(looks):.3f} cores, checkpoint "
            f"{last.checkpoint_bytes / 1e6:.2f} MB, task manager {last.task_manager_bytes >> 20} "
            f"MB, workers {last.worker_bytes >> 20} MB, {last.clients} clients, "
            f"{last.checkpoints} checkpoints",
            flush=True,
        )

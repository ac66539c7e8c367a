"""A stream for Dataflow: the job request, its end, and an archive at a URL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from beam_fraud.monitoring.drift.statistics import HOUR, SCORE
from beam_fraud.operations.drift.live import read_counts
from beam_fraud.storage.urls import Place
from deploy.kafka.broker import Broker
from tests.cli.test_commands_score import bundle
from tests.dataflow_fixtures import (  # noqa: F401  the servers start once for the module
    call,
    held,
    runner,
    servers,
)
from tests.stream_process import ROOT

#: How the service counts.
STREAMING, BASIC = 2, 2


@pytest.fixture
def stream(held: Any, broker: Broker, topic: Callable[..., str]) -> list[str]:  # noqa: F811
    command = ["stream", "--kafka", broker.bootstrap, "--topic", topic(3)]
    command += ["--model", "gs://bucket/model", "--out", "gs://bucket/live"]
    return [*command, *runner("live"), "--max_num_workers", "5", "--machine_type", "n2-standard-2"]


@pytest.mark.slow
def test_the_request_is_a_stream_with_its_stateful_steps(
    held: Any,  # noqa: F811
    stream: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tests.dataflow_job import requirements, staged_graph, steps

    held.state = "JOB_STATE_DRAINED"
    held.counters["rows_in"] = 7
    engine = ["--enable_streaming_engine", "--autoscaling_algorithm", "THROUGHPUT_BASED"]
    assert call([*stream, *engine, "--monitor", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["rows_in"] == 7
    assert json.loads(held.objects["bucket/live/summary.json"]) == summary
    (job,) = held.jobs.values()
    environment = job["environment"]
    (pool,) = environment["workerPools"]
    assert (job["name"], job["type"]) == ("live", STREAMING)
    assert environment["version"]["job_type"] == "FNAPI_STREAMING"
    expected = {"enable_streaming_engine", "enable_windmill_service", "use_runner_v2"}
    assert expected <= set(environment["experiments"])
    assert environment["sdkPipelineOptions"]["options"]["streaming"] is True
    assert pool["autoscalingSettings"] == {"algorithm": BASIC, "maxNumWorkers": 5}
    graph = staged_graph(held, job)
    # A job is updated by these names: another one loses its state.
    names = "Read Parse Validate DeadLetters Deduplicate Transactions Features Infer Decide Explain"
    counted = {"CountForDrift", "CountDeadLetters", "Counts", "Drift", "Archived"}
    assert steps(graph) == {*names.split(), "Observe", "Flagged", "Scores", *counted}
    # What Dataflow's second runner says it has: state with timers, sources that go on, and a word
    # to the source once a bundle counts.
    assert requirements(graph) == {
        "beam:requirement:pardo:finalization:v1",
        "beam:requirement:pardo:splittable_dofn:v1",
        "beam:requirement:pardo:stateful:v1",
    }


@pytest.mark.slow
def test_a_job_is_updated_only_if_it_runs(
    held: Any,  # noqa: F811
    stream: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call([*stream, "--update"]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.endswith("no job live runs in europe-west1; leave it out to start it [BF802]")
    report = {"id": "old", "name": "live", "type": STREAMING, "currentState": "JOB_STATE_RUNNING"}
    held.jobs["old"] = report
    held.objects["bucket/live/scores/part-000-00000000-abc.parquet"] = b"of the job that runs"
    assert call(stream) == 1
    assert "scores has files of another run" in capsys.readouterr().err
    held.state = "JOB_STATE_UPDATED"
    mapping = '{"Old": "New"}'
    assert call([*stream, "--update", "--transform_name_mapping", mapping]) == 0
    (job,) = [job for job in held.jobs.values() if job["id"] != "old"]
    assert job["replaceJobId"] == "old"
    assert job["transformNameMapping"] == {"Old": "New"}


@pytest.mark.slow
def test_a_stream_archives_at_a_url(
    held: Any,  # noqa: F811
    prism: tuple[str, ...],
    inbox: Path,
    tmp_path: Path,
) -> None:
    lines = "".join(f"x{i},2024-01-01T00:{i:02}:00Z,{i}\n" for i in range(40))
    (inbox / "day.csv").write_text("id,t,a\n" + lines)
    command = [sys.executable, "-m", "beam_fraud", "stream", "--watch", str(inbox)]
    command += ["--model", bundle(tmp_path / "b"), "--out", "gs://bucket/out", "--until-idle", "2"]
    command += [*prism, "--shards=2", "--monitor"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, timeout=90)
    assert done.returncode == 0, done.stderr.decode()
    parts = [data for key, data in held.objects.items() if key.startswith("bucket/out/scores/")]
    (tmp_path / "got").mkdir()
    for number, part in enumerate(parts):
        (tmp_path / f"got/{number}.parquet").write_bytes(part)
    ids = pq.read_table(tmp_path / "got")["transaction_id"].to_pylist()
    assert sorted(ids) == sorted(f"x{i}" for i in range(40))
    [rows, by_score] = read_counts(Place.parse("gs://bucket/out/monitor")) or []
    assert rows.summary.of(HOUR).sum() == by_score.summary.of(SCORE).sum() == 40

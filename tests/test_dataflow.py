"""Jobs for Dataflow, over stand-ins of its service and of Cloud Storage: what arrives there."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from beam_fraud.cli import main
from tests.requirements import need_module
from tests.test_commands_score import bundle

ROWS = 40
IMAGE = "europe-docker.pkg.dev/my-project/fraud/worker:1"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    need_module("google.cloud.dataflow", "gcp")
    from apache_beam.runners.dataflow import dataflow_runner

    from tests.dataflow_stand_in import running

    class Hurried:
        """Beam waits for seconds between two questions."""

        time = staticmethod(time.time)

        @staticmethod
        def sleep(_: float) -> None:
            time.sleep(0.02)

    with (
        running(tmp_path_factory.mktemp("account")) as (stand_in, environment),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(dataflow_runner, "time", Hurried)
        yield stand_in


@pytest.fixture
def held(servers: Any, tmp_path: Path) -> Any:
    """The stand-in with transactions and a bundle in a bucket, and nothing else."""
    with servers.lock:
        for of in (servers.objects, servers.jobs, servers.requests, servers.refusals):
            of.clear()
        servers.counters.clear()
        servers.messages.clear()
        servers.work, servers.state = None, "JOB_STATE_DONE"
    lines = [f"x{i},2024-01-01T00:{i:02}:00Z,{i}\n" for i in range(ROWS)]
    lines.append("bad,no time,1\n")
    servers.objects["bucket/days/day.csv"] = ("id,t,a\n" + "".join(lines)).encode()
    for file in Path(bundle(tmp_path / "model")).iterdir():
        servers.objects[f"bucket/model/{file.name}"] = file.read_bytes()
    return servers


@pytest.fixture
def score(held: Any) -> list[str]:
    from tests.dataflow_stand_in import ENDPOINT, PROJECT, REGION

    command = ["score", "gs://bucket/days/*.csv", "--model", "gs://bucket/model"]
    command += ["--out", "gs://bucket/out", "--runner", "DataflowRunner", "--project", PROJECT]
    command += ["--region", REGION, "--temp_location", "gs://bucket/temp", "--job_name", "nightly"]
    return [*command, "--sdk_container_image", IMAGE, "--dataflow_endpoint", ENDPOINT]


def call(command: list[str]) -> int:
    try:
        return main(command) or 0
    except SystemExit as ended:
        return int(ended.code or 0)


def rows(held: Any, branch: str) -> list[dict[str, Any]]:
    found = [key for key in held.objects if key.startswith(f"bucket/out/{branch}/part-")]
    return [
        row for key in found for row in pq.read_table(io.BytesIO(held.objects[key])).to_pylist()
    ]


def test_the_graph_that_is_staged_scores_and_publishes(
    held: Any, score: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.dataflow_job import run_staged, staged_graph, steps

    held.work = lambda job: run_staged(held, job)
    assert call([*score, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows_in"], summary["rows_scored"], summary["rows_dead"]) == (41, 40, 1)
    assert json.loads(held.objects["bucket/out/summary.json"]) == summary
    assert {row["transaction_id"] for row in rows(held, "scores")} == {f"x{i}" for i in range(40)}
    assert [row["reason"] for row in rows(held, "dead_letters")] == ["unparseable_time"]
    assert [key for key in held.objects if ".incoming" in key] == []
    (job,) = held.jobs.values()
    assert steps(staged_graph(held, job)) >= {
        "Segments",
        "Read",
        "Parse",
        "Validate",
        "Deduplicate",
        "Features",
        "Infer",
        "Decide",
        "Explain",
        "Flagged",
        "Scores",
        "DeadLetters",
        "Publish",
    }

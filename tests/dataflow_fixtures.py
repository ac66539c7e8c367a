"""Fixtures of the stand-in for Dataflow, for tests of files and streams."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_commands_score import bundle
from tests.requirements import need_module

ROWS = 40
IMAGE = "europe-docker.pkg.dev/my-project/fraud/worker:1"


def call(command: list[str]) -> int:
    """Call the command line in this process; return the exit code."""
    from beam_fraud.cli import main

    try:
        return main(command) or 0
    except SystemExit as ended:
        return int(ended.code or 0)


def runner(job: str) -> list[str]:
    """Return the options for a job of this name."""
    from tests.dataflow_stand_in import ENDPOINT, PROJECT, REGION

    options = ["--runner", "DataflowRunner", "--project", PROJECT, "--region", REGION]
    options += ["--temp_location", "gs://bucket/temp", "--job_name", job]
    return [*options, "--sdk_container_image", IMAGE, "--dataflow_endpoint", ENDPOINT]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    need_module("google.cloud.dataflow", "gcp")
    from apache_beam.runners.dataflow import dataflow_runner

    from tests.dataflow_stand_in import running

    class Hurried:
        """Polls the job without Beam's pauses."""

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
    """The stand-in with transactions and a bundle in a bucket."""
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

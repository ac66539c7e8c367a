"""Options that may fail on a runner lead to a warning, and the pipeline still starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_fraud.runners.call import Call
from beam_fraud.runners.checks import enforce
from beam_fraud.runners.submission import Submission
from deploy.ports import free_port
from tests.flink_stand_in import flink_stand_in
from tests.job_server import job_server, job_server_jar
from tests.requirements import need_job_server

EXTERNAL = ("--environment_type=EXTERNAL", "--environment_config=127.0.0.1:50000")


@pytest.mark.parametrize("expected", [2, 3])
def test_a_flink_that_starts_task_managers_is_waited_for(
    expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    with flink_stand_in(slots=2) as flink, job_server("flink_master") as endpoint:
        flink.configure(kubernetes__cluster_id="fraud")
        at = (f"--flink_master={flink.address}", f"--job_endpoint={endpoint}", *EXTERNAL)
        given = ["--runner=PortableRunner", *at, f"--parallelism={expected}"]
        enforce(Call(Submission.of(given, workers=1), streaming=False))
    waits = "2 of 2 task slots of Flink are free and the job takes 3" in caplog.text
    assert waits is (expected == 3)


def test_a_missing_pool_leads_to_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    silent = f"127.0.0.1:{free_port()}"
    with job_server("flink_master") as endpoint:
        pool = ("--environment_type=EXTERNAL", f"--environment_config={silent}")
        at = ("--runner=PortableRunner", f"--job_endpoint={endpoint}")
        enforce(Call(Submission.of([*at, *pool], workers=1), streaming=False))
    assert f"--environment_config {silent}: no pool of workers answers there (" in caplog.text


@pytest.mark.parametrize("more", [(), ("--flink_master",), ("--flink_master", "--job_name=mine")])
def test_a_stream_without_possible_savepoints_leads_to_a_warning(
    more: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with flink_stand_in() as flink, job_server("flink_master") as endpoint:
        flink.configure()
        at = (f"--job_endpoint={endpoint}", *EXTERNAL, "--checkpointing_interval=1000")
        there = [one.replace("_master", f"_master={flink.address}") for one in more]
        given = ["--runner=PortableRunner", *at, *there]
        enforce(Call(Submission.of(given, 1, streaming=True), streaming=True))
    assert ("Ctrl-C will keep no savepoint" in caplog.text) is (len(more) != 1)


@pytest.mark.parametrize("whose", ["ours", "Beam's", "a file that is no jar", "none"])
def test_a_job_server_without_bounded_state_leads_to_a_warning(
    whose: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    need_job_server()
    jar = job_server_jar(whose, tmp_path)
    with job_server("flink_master") as endpoint:
        given = ["--runner=FlinkRunner", f"--job_endpoint={endpoint}", *EXTERNAL]
        given += [f"--flink_job_server_jar={jar}"] * (whose != "none")
        enforce(Call(Submission.of(given, 1, streaming=True), streaming=True))
    assert ("grows without bound" in caplog.text) is (whose == "Beam's")

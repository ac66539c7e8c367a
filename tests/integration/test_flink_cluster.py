"""A Flink cluster: workers of its pool log to it, a jar submits jobs, permanent failures end it."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_fraud.errors import Code, FraudError, line_of
from beam_fraud.runners import launch
from beam_fraud.runners.submission import Submission
from deploy.flink.cluster import FlinkCluster
from deploy.flink.job_server_jar import job_server_jar
from deploy.ports import listens
from tests.fn_runner import until

_LOG = logging.getLogger(__name__)
STARTED = re.compile(r"worker \S+ is process (\d+)")
ENDED = re.compile(r"process (\d+), ended with code 0")


def told(number: int, out: Path) -> int:
    """Leave a number in a file and in the log of the worker."""
    _LOG.warning("this worker is at %d", number)
    (out / "told").write_text(str(number), "utf-8")
    return number


def written(options: list[str], out: Path) -> str:
    """Return the output of a pipeline."""
    with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        _ = pipeline | "Create" >> beam.Create([7]) | "Tell" >> beam.Map(told, out)
    return (out / "told").read_text("utf-8")


@pytest.mark.slow
def test_workers_have_the_options_log_to_flink_and_end_with_their_job(
    flink_cluster: FlinkCluster, tmp_path: Path
) -> None:
    pool, flink = (flink_cluster.parts[name].log for name in ("worker pool", "task manager 1"))
    options = [*flink_cluster.beam_options, "--max_cache_memory_usage_mb=5"]
    assert written(options, tmp_path) == "7"
    until(lambda: "this worker is at 7" in flink.read_text("utf-8"))
    assert f"state cache with size {5 << 20}" in flink.read_text("utf-8")

    def running() -> set[str]:
        message = pool.read_text("utf-8")
        return set(STARTED.findall(message)) - set(ENDED.findall(message))

    assert STARTED.search(pool.read_text("utf-8"))
    until(lambda: not running())
    assert "Traceback" not in pool.read_text("utf-8")


@pytest.mark.slow
def test_a_jar_submits_without_a_job_server(flink_cluster: FlinkCluster, tmp_path: Path) -> None:
    options = [
        "--runner=FlinkRunner",
        f"--flink_master={flink_cluster.rest}",
        f"--flink_job_server_jar={job_server_jar()}",
        "--environment_type=EXTERNAL",
        f"--environment_config={flink_cluster.worker_pool}",
    ]
    assert written(options, tmp_path) == "7"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.1 is the only loopback")
def test_the_job_server_listens_at_one_address(flink_cluster: FlinkCluster) -> None:
    port = flink_cluster.job_endpoint.rpartition(":")[2]
    assert listens(f"127.0.0.1:{port}")
    assert not listens(f"127.0.0.2:{port}")


def broken(number: int) -> int:
    """Fail permanently."""
    raise FraudError(f"part-{number}.csv: cannot be read", Code.INPUT_UNREADABLE)


@pytest.mark.slow
def test_a_batch_with_a_permanent_failure_ends(
    flink_cluster: FlinkCluster, caplog: pytest.LogCaptureFixture
) -> None:
    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | "Create" >> beam.Create([7]) | "Read" >> beam.Map(broken)

    submission = Submission.of(flink_cluster.beam_options, 1)
    with pytest.raises(RuntimeError) as failed, caplog.at_level(logging.WARNING):
        launch.run(submission, build)
    assert line_of(failed.value) == "part-7.csv: cannot be read [BF202]"
    again = [line for line in caplog.messages if "Flink starts it again" in line]
    line = "the job failed, and Flink starts it again: part-7.csv: cannot be read [BF202]"
    assert again == [line] * 3
    until(lambda: not flink_cluster.jobs("RUNNING", "RESTARTING", "CANCELLING"))

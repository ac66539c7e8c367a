"""Failures of Flink become one line."""

from __future__ import annotations

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_fraud.runners.flink.failure import flink_failure

NO_POOL = """java.lang.Exception: The user defined 'open()' method caused an exception: \
org.apache.beam.vendor.grpc.io.grpc.StatusRuntimeException: UNAVAILABLE: io exception
\tat org.apache.beam.runners.fnexecution.environment.ExternalEnvironmentFactory.createEnvironment
Caused by: io.netty.channel.AbstractChannel$AnnotatedConnectException: Connection refused: /h:5
Caused by: java.net.ConnectException: Connection refused
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "java.io.FileNotFoundException: Cannot find checkpoint or savepoint file/directory "
            "'file:///gone' on file system 'file'.",
            "--savepoint_path file:///gone: Flink finds no savepoint or checkpoint there; give the "
            "directory that holds _metadata, as Flink's machines see it",
        ),
        (
            NO_POOL,
            "--environment_config h:5: no pool of workers answers a task manager there (Connection "
            "refused: /h:5); start beam-fraud workers on its machine, or correct the address",
        ),
        (
            "org.apache.flink.runtime.jobmanager.scheduler.NoResourceAvailableException: Could ...",
            "--parallelism 3: too few task slots of Flink became free; give fewer, start more task "
            "managers, or cancel other jobs",
        ),
    ],
)
def test_known_failures_name_the_cause_and_the_fix(text: str, line: str) -> None:
    options = PipelineOptions(["--environment_config=h:5", "--parallelism=3"])
    assert str(flink_failure(options, RuntimeError(text))) == line


def test_unknown_failures_are_not_changed() -> None:
    assert flink_failure(PipelineOptions([]), RuntimeError("ValueError: a row")) is None

"""A job gets a unique name if it can be cancelled by name."""

from __future__ import annotations

import logging
import threading

import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_fraud.runners.flink.job import FlinkJob, flink_failure, name_of_own
from beam_fraud.runners.submission import Submission
from tests.flink_stand_in import FlinkStandIn, flink_stand_in
from tests.fn_runner import until

NO_POOL = """java.lang.Exception: The user defined 'open()' method caused an exception: \
org.apache.beam.vendor.grpc.io.grpc.StatusRuntimeException: UNAVAILABLE: io exception
\tat org.apache.beam.runners.fnexecution.environment.ExternalEnvironmentFactory.createEnvironment
Caused by: io.netty.channel.AbstractChannel$AnnotatedConnectException: Connection refused: /h:5
Caused by: java.net.ConnectException: Connection refused
"""


def named(*args: str) -> tuple[str | None, str | None]:
    """Return the unique name of a job and its present name."""
    options = PipelineOptions(list(args))
    return name_of_own(options), options.view_as(GoogleCloudOptions).job_name


def test_a_job_of_a_cluster_has_a_unique_name() -> None:
    first, second = (named("--flink_master=127.0.0.1:8081") for _ in range(2))
    assert first[0] == first[1]
    assert first != second


@pytest.mark.parametrize("master", [(), ("--flink_master=[local]",), ("--flink_master=[auto]",)])
def test_without_a_clusters_address_nothing_is_cancelled(master: tuple[str, ...]) -> None:
    assert named(*master) == (None, None)


def test_a_name_of_the_user_may_belong_to_another_job() -> None:
    assert named("--flink_master=127.0.0.1:8081", "--job_name=nightly") == (None, "nightly")


class Ended(PipelineResult):  # type: ignore[misc]
    """A pipeline that has ended before anything waits for it."""

    def wait_until_finish(self, duration: int | None = None) -> str:
        return str(PipelineState.DONE)


@pytest.mark.parametrize("discarded", [False, True])
def test_a_stream_that_ends_names_the_savepoint_to_resume(
    discarded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with flink_stand_in() as flink, caplog.at_level(logging.INFO, "beam_fraud"):
        flink.answers["/jobs/overview"] = {"jobs": [{"jid": "7", "name": "mine", "end-time": 5}]}
        older = {"trigger_timestamp": 1, "external_path": "file:/older"}
        newer = {"trigger_timestamp": 2, "external_path": "file:/newer", "discarded": discarded}
        latest = {"completed": newer, "savepoint": older}
        flink.answers["/jobs/7/checkpoints"] = {"latest": latest}
        options = PipelineOptions([f"--flink_master={flink.address}", "--streaming"])
        FlinkJob(Ended(PipelineState.RUNNING), options, "mine").wait_until_finish()
    assert f"--savepoint_path=file:/{'older' if discarded else 'newer'}" in caplog.text


def test_a_stopped_stream_names_the_savepoint_taken_before_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with flink_stand_in() as flink, caplog.at_level(logging.INFO, "beam_fraud"):
        flink.answers["/jobs/overview"] = {"jobs": [{"jid": "7", "name": "mine", "end-time": -1}]}
        flink.answers["/jobs/7/savepoints"] = {"request-id": "r"}
        done = {"status": {"id": "COMPLETED"}, "operation": {"location": "file:/kept"}}
        flink.answers["/jobs/7/savepoints/r"] = done
        later = {"trigger_timestamp": 2, "external_path": "file:/of-sources-that-ended"}
        flink.answers["/jobs/7/checkpoints"] = {"latest": {"completed": later}}
        options = PipelineOptions([f"--flink_master={flink.address}", "--streaming"])
        job = FlinkJob(Ended(PipelineState.RUNNING), options, "mine")
        job.keep()
        job.wait_until_finish()
    assert caplog.messages == ["to resume, give --savepoint_path=file:/kept"]


def test_a_failed_savepoint_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    with flink_stand_in() as flink, caplog.at_level(logging.INFO, "beam_fraud"):
        flink.answers["/jobs/overview"] = {"jobs": [{"jid": "7", "name": "mine", "end-time": -1}]}
        options = PipelineOptions([f"--flink_master={flink.address}", "--streaming"])
        job = FlinkJob(Ended(PipelineState.RUNNING), options, "mine")
        job.keep()
        job.wait_until_finish()
    (message,) = caplog.messages
    assert message.startswith("Flink took no savepoint (404")


class Runs(PipelineResult):  # type: ignore[misc]
    """A pipeline that runs until it is cancelled."""

    def __init__(self) -> None:
        super().__init__(PipelineState.RUNNING)
        self.end = threading.Event()

    def wait_until_finish(self, duration: int | None = None) -> str:
        self.end.wait()
        return str(PipelineState.DONE)


def restoring(flink: FlinkStandIn, runs: Runs) -> FlinkJob:
    """A job whose tasks restore their state."""
    flink.answers["/jobs/overview"] = {"jobs": [{"jid": "7", "name": "mine", "end-time": -1}]}
    flink.answers["/jobs/7/exceptions?maxExceptions=8"] = {"exceptionHistory": {"entries": []}}
    flink.answers["/jobs/7"] = {"vertices": [{"tasks": {"RUNNING": 3, "INITIALIZING": 1}}]}
    restored = {"external_path": "file:/of-before"}
    flink.answers["/jobs/7/checkpoints"] = {"latest": {"restored": restored}}
    options = PipelineOptions([f"--flink_master={flink.address}", "--streaming"])
    return FlinkJob(runs, options, "mine")


def test_a_job_reports_its_restore_until_it_runs() -> None:
    with flink_stand_in() as flink:
        runs = Runs()
        job = restoring(flink, runs)
        waits = threading.Thread(target=job.wait_until_finish)
        waits.start()
        until(lambda: job.phase == "Flink restores file:/of-before (3 of 4 tasks run)")
        flink.answers["/jobs/7"] = {"vertices": [{"tasks": {"RUNNING": 4}}]}
        until(lambda: job.phase == "")
        runs.end.set()
        waits.join()


def test_a_stream_that_ends_while_restoring_names_the_valid_savepoint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with flink_stand_in() as flink, caplog.at_level(logging.INFO, "beam_fraud"):
        restoring(flink, Runs()).keep()
    (message,) = caplog.messages
    assert message.startswith("Flink took no savepoint (404")
    assert message.endswith("still valid: --savepoint_path=file:/of-before")


@pytest.mark.parametrize("arguments", [(), ("--savepoint_path=file:/given",)])
def test_a_stream_that_ends_before_its_job_begins_names_the_valid_savepoint(
    arguments: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with flink_stand_in() as flink, caplog.at_level(logging.INFO, "beam_fraud"):
        flink.answers["/jobs/overview"] = {"jobs": []}
        options = PipelineOptions([f"--flink_master={flink.address}", "--streaming", *arguments])
        FlinkJob(Runs(), options, "mine").keep()
    (message,) = caplog.messages
    assert "the job has not begun" in message
    assert message.endswith("--savepoint_path=file:/given" if arguments else "no stream can resume")


def test_a_cancelled_stream_keeps_its_checkpoints() -> None:
    options = Submission.of(["--runner=FlinkRunner"], workers=1, streaming=True).options
    arguments = options.get_all_options(drop_default=True)
    # Beam's job server looks at the second only with the first.
    assert arguments["externalized_checkpoints_enabled"] is True
    assert arguments["retain_externalized_checkpoints_on_cancellation"] is True


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

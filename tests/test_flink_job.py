"""A job gets a name of its own where it can be cancelled by it."""

from __future__ import annotations

import logging

import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_fraud import launch
from beam_fraud.flink_job import FlinkJob, name_of_own
from tests.flink_stand_in import flink_stand_in


def named(*args: str) -> tuple[str | None, str | None]:
    """The name of its own that a job got, and the name that it has."""
    options = PipelineOptions(list(args))
    return name_of_own(options), options.view_as(GoogleCloudOptions).job_name


def test_a_job_of_a_cluster_has_a_name_that_no_other_has() -> None:
    first, second = (named("--flink_master=127.0.0.1:8081") for _ in range(2))
    assert first[0] == first[1]
    assert first != second


@pytest.mark.parametrize("master", [(), ("--flink_master=[local]",), ("--flink_master=[auto]",)])
def test_without_the_address_of_a_cluster_there_is_nobody_to_tell(master: tuple[str, ...]) -> None:
    assert named(*master) == (None, None)


def test_a_name_that_was_chosen_may_be_anothers() -> None:
    assert named("--flink_master=127.0.0.1:8081", "--job_name=nightly") == (None, "nightly")


class Ended(PipelineResult):  # type: ignore[misc]
    """A pipeline that has ended by the time that somebody waits for it."""

    def wait_until_finish(self, duration: int | None = None) -> str:
        return str(PipelineState.DONE)


@pytest.mark.parametrize("discarded", [False, True])
def test_a_stream_that_ends_says_with_what_another_goes_on(
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


def test_a_stream_that_was_told_to_end_goes_on_with_what_was_kept_before(
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
    assert caplog.messages == ["to go on where it stopped, give --savepoint_path=file:/kept"]


def test_a_savepoint_that_fails_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with flink_stand_in() as flink, caplog.at_level(logging.INFO, "beam_fraud"):
        flink.answers["/jobs/overview"] = {"jobs": [{"jid": "7", "name": "mine", "end-time": -1}]}
        options = PipelineOptions([f"--flink_master={flink.address}", "--streaming"])
        job = FlinkJob(Ended(PipelineState.RUNNING), options, "mine")
        job.keep()
        job.wait_until_finish()
    (said,) = caplog.messages
    assert said.startswith("Flink keeps no savepoint (404")


def test_a_cancelled_stream_keeps_its_checkpoints() -> None:
    options = launch.pipeline_options(["--runner=FlinkRunner"], workers=1, streaming=True)
    given = options.get_all_options(drop_default=True)
    # Beam's job server looks at the second only with the first.
    assert given["externalized_checkpoints_enabled"] is True
    assert given["retain_externalized_checkpoints_on_cancellation"] is True

"""A stream ends after a signal on every runner."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_fraud.runners.launch import Draining

#: Longer than any test waits.
NEVER = 60.0


class Job(PipelineResult):  # type: ignore[misc]
    """A started pipeline of a portable runner."""

    def __init__(self, refuses: Exception | None = None) -> None:
        super().__init__(PipelineState.RUNNING)
        self._refuses = refuses
        self._over = threading.Event()
        self.waited_for = threading.Event()

    def end(self, state: PipelineState = PipelineState.DONE) -> None:
        self._state = state
        self._over.set()

    def wait_until_finish(self, duration: int | None = None) -> PipelineState:
        self.waited_for.set()
        assert self._over.wait(NEVER)
        if self._state != PipelineState.DONE:
            raise RuntimeError(f"Pipeline failed in state {self._state}: unknown error")
        return self._state

    def cancel(self) -> None:
        if self._refuses is not None:
            raise self._refuses
        self.end(PipelineState.CANCELLED)


def when_waited_for(job: Job, then: Callable[[], None]) -> None:
    """Call a function while the command waits for the job."""

    def wait() -> None:
        assert job.waited_for.wait(NEVER)
        then()

    threading.Thread(target=wait, daemon=True).start()


def test_a_job_that_ends_when_its_sources_do_is_not_cancelled() -> None:
    job = Job()
    draining = Draining(stop=job.end, progress=int, patience=NEVER)
    when_waited_for(job, draining.ask)
    draining.wait(job)
    assert job.state == PipelineState.DONE


def test_the_savepoint_is_taken_before_the_sources_end() -> None:
    job, done = Job(), list[str]()

    def stop() -> None:
        done.append("stopped")
        job.end()

    draining = Draining(stop, int, NEVER, keep=lambda result: done.append(result.state))
    when_waited_for(job, draining.ask)
    draining.wait(job)
    assert done == [PipelineState.RUNNING, "stopped"]


def test_a_job_that_continues_is_cancelled_successfully(
    caplog: pytest.LogCaptureFixture,
) -> None:
    job, stopped = Job(), list[float]()
    draining = Draining(stop=lambda: stopped.append(time.monotonic()), progress=int, patience=0.2)
    when_waited_for(job, draining.ask)
    with caplog.at_level(logging.INFO, "beam_fraud"):
        draining.wait(job)
    assert job.state == PipelineState.CANCELLED
    assert time.monotonic() - stopped[0] >= 0.2
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "is cancelled" in caplog.text


def test_a_job_that_progresses_is_not_cancelled() -> None:
    job, done = Job(), iter([1, 2, 3, 3])
    requested = list[int]()

    def progress() -> int:
        requested.append(next(done))
        return requested[-1]

    draining = Draining(stop=lambda: None, progress=progress, patience=0.01)
    when_waited_for(job, draining.ask)
    draining.wait(job)
    assert job.state == PipelineState.CANCELLED
    assert requested == [1, 2, 3, 3]


def test_nothing_is_cancelled_unasked() -> None:
    job = Job()
    threads = threading.active_count()
    when_waited_for(job, job.end)
    Draining(stop=lambda: None, progress=int, patience=0.0).wait(job)
    assert job.state == PipelineState.DONE
    assert threading.active_count() == threads, "the watch has ended as well"


@pytest.mark.parametrize("state", [PipelineState.FAILED, PipelineState.CANCELLED])
def test_a_job_that_fails_or_is_cancelled_by_others_is_an_error(state: PipelineState) -> None:
    job = Job()
    when_waited_for(job, lambda: job.end(state))
    with pytest.raises(RuntimeError, match=str(state)):
        Draining(stop=lambda: None, progress=int, patience=NEVER).wait(job)


def test_a_job_that_fails_while_draining_is_an_error() -> None:
    job = Job()
    draining = Draining(stop=lambda: job.end(PipelineState.FAILED), progress=int, patience=NEVER)
    when_waited_for(job, draining.ask)
    with pytest.raises(RuntimeError, match="FAILED"):
        draining.wait(job)


def test_a_runner_that_does_not_cancel_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    job = Job(refuses=NotImplementedError("no cancel here"))
    draining = Draining(stop=lambda: None, progress=int, patience=0.0)
    when_waited_for(job, draining.ask)
    ending = threading.Thread(target=lambda: draining.wait(job), daemon=True)
    ending.start()
    deadline = time.monotonic() + NEVER
    while "no cancel here" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert ending.is_alive(), "the job runs, so it is waited for"
    job.end()
    ending.join(NEVER)
    assert not ending.is_alive()

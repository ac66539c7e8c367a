"""A stream on Dataflow: the job it replaces, and how it is drained."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_fraud.errors import Code, FraudError
from beam_fraud.platform.beam_internals import dataflow_jobs, drain_dataflow_job
from beam_fraud.platform.wording import first_line
from beam_fraud.runners.launch import finished

_LOG = logging.getLogger(__name__)
#: Final states of a drained stream.
_GOOD_ENDS = (PipelineState.DRAINED, PipelineState.UPDATED)


def refuse_update_without_job(options: PipelineOptions) -> None:
    """Check that the job to update exists; Beam would search it without end.

    Raises:
      FraudError: it does not exist, or the service refuses.
    """
    cloud = options.view_as(GoogleCloudOptions)
    if not cloud.update:
        return
    from google.cloud import dataflow

    request = dataflow.ListJobsRequest(project_id=cloud.project, location=cloud.region)
    running = (dataflow.JobState.JOB_STATE_RUNNING, dataflow.JobState.JOB_STATE_DRAINING)
    try:
        jobs = dataflow_jobs(options, request)
        exists = any(job.name == cloud.job_name and job.current_state in running for job in jobs)
    except Exception as error:  # the client and the network may raise anything
        raise FraudError(
            f"--update: the jobs cannot be listed ({first_line(error)})", Code.RUNNER_OPTION
        ) from None
    if not exists:
        raise FraudError(
            f"--update: no job {cloud.job_name} runs in {cloud.region}; leave it out to start it",
            Code.RUNNER_OPTION,
        )


class DataflowDraining:
    """Wait for a job; `ask` makes the service drain it, so that pending results are written."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._ended = threading.Event()

    def ask(self) -> None:
        """Drain the job; safe to call from a signal handler."""
        self._asked.set()

    def wait(self, result: PipelineResult) -> None:
        """Wait for the end of a started job.

        Raises:
          RuntimeError: it failed or was cancelled.
        """
        with self._watched(result):
            try:
                finished(result)
            except Exception:
                # Beam treats every final state but one as a failure.
                if result.state not in _GOOD_ENDS:
                    raise

    @contextmanager
    def _watched(self, result: Any) -> Iterator[None]:
        # Beam's own wait has no time limit, and `ask` comes meanwhile.
        watch = threading.Thread(target=self._drain, args=(result,), daemon=True)
        watch.start()
        try:
            yield
        finally:
            self._ended.set()
            self._asked.set()
            watch.join()

    def _drain(self, result: Any) -> None:
        self._asked.wait()
        if self._ended.is_set():
            return
        _LOG.info("draining job %s; that takes minutes", result.job_id())
        try:
            drain_dataflow_job(result)
        except Exception as error:
            _LOG.warning("the job was not drained (%s); drain it by gcloud", error)

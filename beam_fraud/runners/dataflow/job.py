"""A stream that runs on Dataflow: which job it replaces, and how it comes to its end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_fraud.beam_internals import dataflow_jobs, drain_dataflow_job
from beam_fraud.errors import FraudError
from beam_fraud.runners.launch import finished
from beam_fraud.wording import first_line

_LOG = logging.getLogger(__name__)
#: What a stream ends as that was asked to end.
_GOOD_ENDS = (PipelineState.DRAINED, PipelineState.UPDATED)


def refuse_update_of_nothing(options: PipelineOptions) -> None:
    """See that there is a job to replace, if one is to be; Beam would look for it without an end.

    Raises:
      FraudError: there is none, or the service refuses.
    """
    cloud = options.view_as(GoogleCloudOptions)
    if not cloud.update:
        return
    from google.cloud import dataflow

    request = dataflow.ListJobsRequest(project_id=cloud.project, location=cloud.region)
    running = (dataflow.JobState.JOB_STATE_RUNNING, dataflow.JobState.JOB_STATE_DRAINING)
    try:
        jobs = dataflow_jobs(options, request)
        found = any(job.name == cloud.job_name and job.current_state in running for job in jobs)
    except Exception as error:  # whatever the client and the network raise
        raise FraudError(f"--update: the jobs cannot be listed ({first_line(error)})") from None
    if not found:
        raise FraudError(
            f"--update: no job {cloud.job_name} runs in {cloud.region}; leave --update to start it"
        )


class DataflowDraining:
    """Waits for a job; `ask` has the service drain it, so that what waits is written."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._ended = threading.Event()

    def ask(self) -> None:
        """Have the job drained; a signal may call this."""
        self._asked.set()

    def wait(self, result: PipelineResult) -> None:
        """Wait for the end of a job that has been started.

        Raises:
          RuntimeError: it failed, or someone has cancelled it.
        """
        with self._watched(result):
            try:
                finished(result)
            except Exception:
                # Beam takes every end but one for a failure.
                if result.state not in _GOOD_ENDS:
                    raise

    @contextmanager
    def _watched(self, result: Any) -> Iterator[None]:
        # Beam's own wait has no end, and what asks comes while it lasts.
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

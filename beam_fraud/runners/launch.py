"""Run a pipeline on the chosen runner, by default in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable

import apache_beam as beam
from apache_beam.options.pipeline_options import StandardOptions
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_fraud.runners.dataflow.failure import dataflow_failure
from beam_fraud.runners.flink.failure import flink_failure
from beam_fraud.runners.flink.job import FlinkJob, name_of_own
from beam_fraud.runners.submission import Submission

_LOG = logging.getLogger(__name__)


def finished(result: PipelineResult) -> None:
    """Wait for the end of a started pipeline.

    Raises:
      RuntimeError: it failed; the runner's text holds the reason.
    """
    state = result.wait_until_finish()
    if state != PipelineState.DONE:
        raise RuntimeError(f"the pipeline ended as {state}")


def run(
    submission: Submission,
    build: Callable[[beam.Pipeline], None],
    wait: Callable[[PipelineResult], None] = finished,
) -> PipelineResult:
    """Build a pipeline and run it to its end.

    Args:
      submission: Beam's options and the runner.
      build: function that adds the graph.
      wait: function that waits for the end of a started pipeline. The local runner returns only
        then; on others the pipeline still runs when this is called.

    Raises:
      RuntimeError: the pipeline failed; the runner's text holds the reason.
      FraudError: Dataflow or Flink refused it, or Dataflow reports why it failed.
    """
    try:
        return _run(submission, build, wait)
    except Exception as error:
        failure = flink_failure(submission.options, error)
        if submission.runner.dataflow:
            failure = dataflow_failure(error) or failure
        if failure is None:
            raise
        raise failure from error


def _run(
    submission: Submission,
    build: Callable[[beam.Pipeline], None],
    wait: Callable[[PipelineResult], None],
) -> PipelineResult:
    options, runner = submission.options, submission.runner
    own_name = name_of_own(options)
    pipeline = beam.Pipeline(options=options)
    build(pipeline)
    result = pipeline.run()
    if own_name is not None:
        result = FlinkJob(result, options, own_name)
    try:
        wait(result)
    except BaseException:
        # A stream there is a service of its own; the command need not wait.
        stays = runner.dataflow and options.view_as(StandardOptions).streaming
        if not stays and _cancelled(result) and own_name is None and runner.may_be_flink:
            _LOG.warning(
                "on a Flink cluster the job may continue: cancel it there, or give --flink_master "
                "HOST:PORT and no --job_name, so that it is cancelled with the command"
            )
        raise
    return result


def _cancelled(result: PipelineResult) -> bool:
    """Cancel a remote job that nobody waits for: it would write where others do.

    Returns:
      Whether a job was cancelled.
    """
    try:
        if PipelineState.is_terminal(result.state):
            return False
        result.cancel()
    except Exception as error:
        _LOG.warning("the runner did not cancel the pipeline (%s); cancel it there", error)
    return True

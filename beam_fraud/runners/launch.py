"""Run a pipeline on the chosen runner, by default in this process; drain it after a signal."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import nullcontext

import apache_beam as beam
from apache_beam.options.pipeline_options import StandardOptions
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_fraud.beam_internals import every_report_counts
from beam_fraud.errors import Code, FraudError
from beam_fraud.runners.flink.job import FlinkJob, flink_failure, name_of_own
from beam_fraud.runners.submission import Submission

_LOG = logging.getLogger(__name__)
#: Modules whose errors concern the service, Google's libraries or Beam's use of them.
_THEIRS = ("google.", "apache_beam.runners.dataflow")
_INVALID = "Pipeline has validations errors:"
#: Maximum of characters of the service's message, which may contain a worker's traceback.
_MOST_SAID = 600


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
    runner = submission.runner
    on_prism = runner.on_prism or runner.may_be_prism
    try:
        with every_report_counts() if on_prism else nullcontext():
            return _run(submission, build, wait)
    except Exception as error:
        failure = flink_failure(submission.options, error)
        if runner.dataflow:
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
    """Cancel a remote job that this process no longer awaits: it would write where others do.

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


def dataflow_failure(error: Exception) -> FraudError | None:
    """Return the error for users; None for a bug of this program.

    An error of this package in a worker is left alone: its own line is in the text.
    """
    text = str(error)
    if f"{FraudError.__module__}." in text:
        return None
    if type(error).__module__.startswith(_THEIRS):
        reason = text.partition("Error:\n")[2] or text
    elif isinstance(error, OSError) or text.startswith(_INVALID):
        reason = text.removeprefix(_INVALID)
    else:
        return None
    line = " ".join(_last_of_traceback(reason).split())
    return FraudError(f"Dataflow: {line[:_MOST_SAID]}", Code.PIPELINE_FAILED)


def _last_of_traceback(text: str) -> str:
    if "Traceback (most recent call last)" not in text:
        return text
    raised = [line for line in text.splitlines() if line and not line[0].isspace()]
    return raised[-1]


class Draining:
    """Drain a pipeline once `ask` is called, on any runner.

    Some runners end when all sources have ended, some (Flink) never do: there the pipeline is
    cancelled once it makes no more progress.

    Args:
      stop: signals the sources to end.
      progress: value that changes while the pipeline makes progress.
      patience: seconds without progress after which a draining pipeline is cancelled.
      keep: called with the running pipeline before its sources are signalled; None for a runner
        that starts and ends it in one call.
    """

    def __init__(
        self,
        stop: Callable[[], None],
        progress: Callable[[], object],
        patience: float,
        keep: Callable[[PipelineResult], None] | None = None,
    ) -> None:
        self._stop = stop
        self._keep = keep
        self._progress = progress
        self._patience = patience
        self._end_requested = threading.Event()
        self._ended = threading.Event()
        self._cancelled = False

    def ask(self) -> None:
        """Signal the sources to end; safe to call from a signal handler."""
        if self._keep is None:
            self._stop()
        self._end_requested.set()

    def wait(self, result: PipelineResult) -> None:
        """Wait for the end of a started pipeline; a cancellation from here is a success.

        Raises:
          RuntimeError: it failed, or was cancelled by someone else.
        """
        # The runner's own wait has no time limit, and `ask` comes meanwhile.
        watch = threading.Thread(target=self._cancel, args=(result,), daemon=True)
        watch.start()
        try:
            finished(result)
        except Exception:
            # Beam treats a cancelled pipeline as failed.
            if not self._cancelled or result.state != PipelineState.CANCELLED:
                raise
        finally:
            self._ended.set()
            self._end_requested.set()
        watch.join()

    def _cancel(self, result: PipelineResult) -> None:
        self._end_requested.wait()
        if self._keep is not None and not self._ended.is_set():
            self._keep(result)
            self._stop()
        before: object = None
        while (now := self._progress()) != before:
            before = now
            if self._ended.wait(self._patience):
                return
        self._cancelled = True
        _LOG.info("the runner does not end the stream by itself, so it is cancelled")
        try:
            result.cancel()
        except Exception as error:
            _LOG.warning("the runner did not cancel the stream (%s); cancel it there", error)

"""Run a pipeline on the chosen runner, by default in this process."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_fraud.runners.dataflow.failure import dataflow_failure
from beam_fraud.runners.flink.failure import flink_failure
from beam_fraud.runners.flink.job import FlinkJob, name_of_own
from beam_fraud.runners.flink.options import STREAM_DEFAULTS
from beam_fraud.runners.runner import runner_named, runner_of

_LOG = logging.getLogger(__name__)
#: The default runner: it needs no download or service, unlike the first choice of `DirectRunner`.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
#: The default runner for unbounded sources.
ENDLESS_RUNNER = "beam_fraud.runners.local.EndlessRunner"
#: Logger that logs after every bundle; elsewhere the lines go over the network into the runner's
#: log.
_QUIET = {"apache_beam.transforms.util": "WARNING"}
#: Seconds between commits of positions to the broker, which only show the progress.
_FINALIZE_SECONDS = 5.0
#: Time limit of a pipeline on Prism, ten years: Beam gives up after five minutes, as for a single
#: request.
_PRISM_DEFAULTS = {"job_server_timeout": 10 * 365 * 86_400}
#: Experiment that stops Prism from splitting bundles: it splits slow bundles even of stateful
#: steps, and runs the rest at once; two bundles then share a key, and the later write replaces all
#: state of the earlier one.
_PRISM_WHOLE_BUNDLES = "prism_disable_sdf_split"


def pipeline_options(
    beam_args: Sequence[str], workers: int, *, streaming: bool = False
) -> PipelineOptions:
    """Return Beam's options.

    Args:
      beam_args: the user's arguments for Beam.
      workers: processes on this machine.
      streaming: whether the source is unbounded.
    """
    several = {"direct_num_workers": workers, "direct_running_mode": "multi_processing"}
    options = PipelineOptions(list(beam_args))
    # Checks before the launch use the project and keys of the options.
    FileSystems.set_options(options)
    standard = options.view_as(StandardOptions)
    given = options.get_all_options(drop_default=True).get("runner")
    runner = runner_named(LOCAL_RUNNER if given is None else given)
    if runner.local:
        standard.runner = ENDLESS_RUNNER if streaming else LOCAL_RUNNER
    elif "." not in given:
        # Beam accepts `flink` for FlinkRunner, but not everywhere.
        standard.runner = runner.name
    if streaming:
        standard.streaming = True
    more: dict[str, object] = {**several} if workers > 1 else {}
    if streaming and runner.may_be_flink:
        more |= STREAM_DEFAULTS
    if not runner.local:
        more |= {"sdk_harness_log_level_overrides": _QUIET}
    if runner.on_prism:
        more |= _PRISM_DEFAULTS
    chosen = options.get_all_options(drop_default=True)
    made = PipelineOptions(list(beam_args), **{**more, **chosen})
    if streaming and runner.may_be_prism:
        made.view_as(DebugOptions).add_experiment(_PRISM_WHOLE_BUNDLES)
    return made


def takes_checkpoints(options: PipelineOptions) -> bool:
    """Return whether the runner takes checkpoints and notifies its workers."""
    given = options.get_all_options(drop_default=True)
    return runner_of(options).may_be_flink and given.get("checkpointing_interval", -1) > 0


def finalize_seconds(options: PipelineOptions) -> float:
    """Return the seconds between finalization requests of a source (`ReadElsewhere`)."""
    runner = runner_of(options)
    if runner.on_prism or runner.local:
        return 0.0
    never = runner.may_be_flink and not takes_checkpoints(options)
    return math.inf if never else _FINALIZE_SECONDS


def repeats_nothing(options: PipelineOptions) -> bool:
    """Return whether the runner has one worker process and fails with the first failed bundle."""
    return runner_of(options).on_prism


def starts_from_savepoint(options: PipelineOptions) -> bool:
    """Return whether the runner starts from another job's state."""
    given = options.get_all_options(drop_default=True)
    return runner_of(options).may_be_flink and "savepoint_path" in given


def finished(result: PipelineResult) -> None:
    """Wait for the end of a started pipeline.

    Raises:
      RuntimeError: it failed; the runner's text holds the reason.
    """
    state = result.wait_until_finish()
    if state != PipelineState.DONE:
        raise RuntimeError(f"the pipeline ended as {state}")


def run(
    options: PipelineOptions,
    build: Callable[[beam.Pipeline], None],
    wait: Callable[[PipelineResult], None] = finished,
) -> PipelineResult:
    """Build a pipeline and run it to its end.

    Args:
      options: Beam's options.
      build: function that adds the graph.
      wait: function that waits for the end of a started pipeline. The local runner returns only
        then; on others the pipeline still runs when this is called.

    Raises:
      RuntimeError: the pipeline failed; the runner's text holds the reason.
      FraudError: Dataflow or Flink refused it, or Dataflow reports why it failed.
    """
    try:
        return _run(options, build, wait)
    except Exception as error:
        told = dataflow_failure(options, error) or flink_failure(options, error)
        if told is None:
            raise
        raise told from error


def _run(
    options: PipelineOptions,
    build: Callable[[beam.Pipeline], None],
    wait: Callable[[PipelineResult], None],
) -> PipelineResult:
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
        runner = runner_of(options)
        stays = runner.dataflow and options.view_as(StandardOptions).streaming
        if not stays and _cancelled(result) and own_name is None and runner.may_be_flink:
            _LOG.warning(
                "on a Flink cluster the job may run on: cancel it there, or give --flink_master "
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

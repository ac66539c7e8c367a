"""Runs a pipeline on the runner that the user asked for, by default in this process."""

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
#: Needs no download and no service, unlike what `DirectRunner` tries first.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
#: The same for sources that have no end.
ENDLESS_RUNNER = "beam_fraud.runners.local.EndlessRunner"
#: Says something after every bundle, which elsewhere goes over the network into the runner's log.
_QUIET = {"apache_beam.transforms.util": "WARNING"}
#: A source commits its positions then, which only those look at who want to know how far it is.
_FINALIZE_SECONDS = 5.0
#: Beam gives up a pipeline on Prism after five minutes, as if it were one request; ten years.
_PRISM_DEFAULTS = {"job_server_timeout": 10 * 365 * 86_400}
#: Prism splits any bundle that is slow, of steps with state too, and gives the rest to another
#: bundle at once: two have a key then, and what the later one writes takes the place of all state
#: that the earlier one was given.
_PRISM_WHOLE_BUNDLES = "prism_disable_sdf_split"


def pipeline_options(
    beam_args: Sequence[str], workers: int, *, streaming: bool = False
) -> PipelineOptions:
    """Beam's options.

    Args:
      beam_args: what the user gave for Beam.
      workers: processes that share the work on this machine.
      streaming: whether the source has no end.
    """
    several = {"direct_num_workers": workers, "direct_running_mode": "multi_processing"}
    options = PipelineOptions(list(beam_args))
    # What is looked at before the launch is looked at with the project and keys that are given.
    FileSystems.set_options(options)
    standard = options.view_as(StandardOptions)
    given = options.get_all_options(drop_default=True).get("runner")
    runner = runner_named(LOCAL_RUNNER if given is None else given)
    if runner.local:
        standard.runner = ENDLESS_RUNNER if streaming else LOCAL_RUNNER
    elif "." not in given:
        # Beam takes `flink` for FlinkRunner, but not in every place.
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
    """Return whether the runner makes what it has done durable, and tells its workers of it."""
    given = options.get_all_options(drop_default=True)
    return runner_of(options).may_be_flink and given.get("checkpointing_interval", -1) > 0


def finalize_seconds(options: PipelineOptions) -> float:
    """How often a source asks to hear that a bundle is kept for good (`ReadElsewhere`), seconds."""
    runner = runner_of(options)
    if runner.on_prism or runner.local:
        return 0.0
    never = runner.may_be_flink and not takes_checkpoints(options)
    return math.inf if never else _FINALIZE_SECONDS


def repeats_nothing(options: PipelineOptions) -> bool:
    """Whether the runner has one worker process, and fails with the first bundle that fails."""
    return runner_of(options).on_prism


def starts_from_savepoint(options: PipelineOptions) -> bool:
    """Return whether the runner takes up what another job has left."""
    given = options.get_all_options(drop_default=True)
    return runner_of(options).may_be_flink and "savepoint_path" in given


def finished(result: PipelineResult) -> None:
    """Wait for the end of a pipeline that has been started.

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
      options: Beam's.
      build: adds the graph.
      wait: for the end of what has been started. The local runner returns only then; on others the
        pipeline is still running when this is called.

    Raises:
      RuntimeError: the pipeline failed; the runner's text holds the reason.
      FraudError: Dataflow or Flink has refused it, or Dataflow says why it failed.
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
        # A stream there is a service of its own, which needs no command that waits.
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
    """End what still runs elsewhere once nobody waits for it: it would write where others do.

    Returns:
      Whether there was anything to end.
    """
    try:
        if PipelineState.is_terminal(result.state):
            return False
        result.cancel()
    except Exception as error:
        _LOG.warning("the runner did not cancel the pipeline (%s); cancel it there", error)
    return True

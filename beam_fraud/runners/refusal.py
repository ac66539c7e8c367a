"""Refuse calls that the chosen runner cannot run, before anything starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    SparkRunnerOptions,
    StandardOptions,
    TestOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.runner import create_runner

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.platform.beam_internals import declared_options
from beam_fraud.runners.address import Address, refuse_silent_pool, runner_behind
from beam_fraud.runners.dataflow.checks import dataflow_problems
from beam_fraud.runners.downloads import prism_program, refuse_missing_job_server
from beam_fraud.runners.environment import environment_of, refuse_environment, worker_pool
from beam_fraud.runners.flink.cluster import (
    refuse_flink,
    refuse_other_version,
    refuse_parallelism,
    refuse_savepoint,
    warn_of_growth,
)
from beam_fraud.runners.flink.options import FlinkJobOptions
from beam_fraud.runners.flink.rest import flink_of
from beam_fraud.runners.runner import (
    INSTEAD,
    Capability,
    Runner,
    refuse_unusable,
    runner_named,
)
from beam_fraud.runners.submission import Submission
from beam_fraud.runners.worker_place import WorkerPlace

#: Runners of each option, best known first: messages name two.
_DIRECT = ("DirectRunner", "SwitchingDirectRunner", "BundleBasedDirectRunner")
_PORTABLE = ("FlinkRunner", "PortableRunner", "PrismRunner", "SparkRunner")


@cache
def _owners() -> dict[str, tuple[str, ...]]:
    """Return each such option with the runners that read it."""
    owners: dict[str, tuple[str, ...]] = {}
    for options, runners in (
        # The direct runners pass them to Prism.
        (PortableOptions, (*_PORTABLE, *_DIRECT, "DataflowRunner")),
        (JobServerOptions, (*_PORTABLE, *_DIRECT)),
        (FlinkRunnerOptions, ("FlinkRunner", "PortableRunner")),
        (FlinkJobOptions, ("FlinkRunner", "PortableRunner")),
        (SparkRunnerOptions, ("SparkRunner", "PortableRunner")),
        (PrismRunnerOptions, ("PrismRunner", *_DIRECT)),
        (DirectOptions, ("FnApiRunner", *_DIRECT, "EndlessRunner")),
    ):
        owners |= dict.fromkeys(declared_options(options), runners)
    return owners


def refuse_options_of_others(options: PipelineOptions, runner: Runner) -> None:
    """Refuse options that the runner would ignore silently.

    Args:
      options: Beam's options.
      runner: the chosen runner; an unknown runner accepts all.

    Raises:
      UsageError: the runner ignores an option.
    """
    set_options = options.get_all_options(drop_default=True)
    for name, runners in sorted(_owners().items()):
        if name in set_options and runner.name not in runners and (runner.tried or runner.portable):
            looking = " or ".join(runners[:2])
            instead = f"--runner {runner.name} does not look at it; leave it out, or give --runner"
            if runner.local:
                instead = "without --runner nothing looks at it; leave it out, or give --runner"
            raise UsageError(f"--{name}: {instead} {looking}", Code.RUNNER_OPTION)


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """Destination of a pipeline."""

    #: The runner; for a job server that reports it, the runner behind it.
    runner: Runner
    #: Address of the machine that runs it; None for this one.
    cluster: Address | None = None


def refuse_unsupported(
    submission: Submission,
    places: Sequence[WorkerPlace] = (),
    *,
    streaming: bool,
    workers: int = 1,
    until_idle: bool = False,
) -> Target:
    """Check that the runner supports these options and that its services answer.

    Args:
      submission: Beam's options and the runner.
      places: files that workers read and write.
      streaming: whether the source is unbounded.
      workers: requested processes.
      until_idle: whether the stream ends when idle.

    Returns:
      The destination of the pipeline.

    Raises:
      UsageError: the runner cannot run it, or an option is missing or has no effect.
      FraudError: an address does not answer.
    """
    options, runner = submission.options, submission.runner
    option = f"--runner {runner.name}"
    refuse_unusable(runner.name)
    if workers > 1 and (runner.portable or runner.workers_option):
        instead = f"give {runner.workers_option}=N" if runner.workers_option else "leave it out"
        raise UsageError(
            f"--workers {workers}: shares the work of this machine's own runner; with {option} "
            f"{instead}",
            Code.RUNNER_OPTION,
        )
    refuse_options_of_others(options, runner)
    if runner.local:
        return Target(runner)
    if streaming:
        _refuse_incapable_of_streams(runner)
    if runner.may_be_flink:
        refuse_parallelism(options)
    target = _target(options, runner) if runner.portable else Target(runner)
    if runner.dataflow:
        for problem in dataflow_problems(options, places):
            raise UsageError(problem, Code.RUNNER_OPTION)
    _refuse_invalid(options, runner)
    if streaming:
        _refuse_incapable_of_streams(target.runner)
        if target.runner.name == "FlinkRunner":
            _refuse_flink_stream(options, until_idle=until_idle)
        elif until_idle and not target.runner.ends_streams:
            _LOG.warning("--until-idle: this runner may continue anyway; stop the stream by Ctrl-C")
    if target.runner.may_be_flink:
        refuse_savepoint(options, streaming=streaming, cluster=target.cluster)
    if not target.runner.tried:
        _LOG.warning("%s has not been tried with this pipeline; try it on little data", option)
    warn_of_unseen(target, places)
    return target


def warn_of_unseen(target: Target, places: Sequence[WorkerPlace]) -> None:
    """Warn of places that a cluster must share: this machine cannot check that."""
    named = ", ".join(str(place) for place in places if place.local)
    if target.cluster is not None and not target.cluster.here and named:
        _LOG.warning("workers at %s must see the same files there: %s", target.cluster, named)


def _refuse_incapable_of_streams(runner: Runner) -> None:
    """Refuse a stream on a runner that lacks a required capability."""
    for capability in Capability:
        if capability not in runner.can:
            raise UsageError(
                f"--runner {runner.name}: cannot run this, which needs {capability.value}; "
                f"{INSTEAD}",
                Code.RUNNER_UNUSABLE,
            )


def _refuse_invalid(options: PipelineOptions, runner: Runner) -> None:
    instance = create_runner(str(options.view_as(StandardOptions).runner))
    test = options.view_as(TestOptions)
    dry_run = test.dry_run
    # Otherwise Beam requests the bucket from Google, with a warning, or minutes without a response.
    test.dry_run = True
    try:
        errors = PipelineOptionsValidator(options, instance).validate()
    finally:
        test.dry_run = dry_run
    for error in errors:
        line = " ".join(error.split()).rstrip(".")
        raise UsageError(
            f"--runner {runner.name}: {line[:1].lower()}{line[1:]}", Code.RUNNER_OPTION
        )


def _target(options: PipelineOptions, runner: Runner) -> Target:
    """Return where a runner with a job server sends the pipeline; check that it answers."""
    endpoint = options.view_as(PortableOptions).job_endpoint
    flink = flink_of(options) if runner.may_be_flink else None
    server = None if endpoint in (None, "embed") else Address.parse("--job_endpoint", endpoint)
    if endpoint is None and runner.name == "PortableRunner":
        raise UsageError(
            "--runner PortableRunner: say which job server takes the pipeline, as in "
            "--job_endpoint=127.0.0.1:8099, or give FlinkRunner or PrismRunner",
            Code.RUNNER_OPTION,
        )
    there = flink.address if flink else server
    refuse_environment(options, runner, cluster=there)
    if flink is not None:
        flink.address.refuse_silent("--flink_master", "Flink")
        refuse_flink(options, flink)
    if endpoint is None:
        if runner.name == "PrismRunner":
            prism_program(options)
        if runner.name == "FlinkRunner" and flink is not None:
            refuse_other_version(options, flink)
        if not options.view_as(FlinkRunnerOptions).flink_submit_uber_jar:
            refuse_missing_job_server(runner.name, options)
    elif server is not None:
        behind = runner_behind(server)
        if runner.name not in ("PortableRunner", behind or runner.name):
            raise UsageError(
                f"--job_endpoint {server}: the job server there is {behind}'s; give --runner "
                f"{behind}, or another address",
                Code.RUNNER_MISMATCH,
            )
        if runner.name == "PortableRunner" and behind is not None:
            runner = runner_named(behind)
    _warn_of_pool(options, runner, there)
    return Target(runner, there)


def _warn_of_pool(options: PipelineOptions, runner: Runner, cluster: Address | None) -> None:
    """Warn of the pool's address; no error, because a tunnel's end looks local."""
    if environment_of(options, runner) != "EXTERNAL" or (cluster and not cluster.here):
        return
    pool = worker_pool(options)
    try:
        if pool.here:
            refuse_silent_pool(pool)
    except FraudError as error:
        _LOG.warning("%s", error)


def _refuse_flink_stream(options: PipelineOptions, *, until_idle: bool) -> None:
    set_options = options.get_all_options(drop_default=True)
    if until_idle and "shutdown_sources_after_idle_ms" not in set_options:
        raise UsageError(
            "--until-idle: on Flink a stream continues after its source has ended; leave it out "
            "and stop the stream by Ctrl-C, or give --shutdown_sources_after_idle_ms=1000 as well",
            Code.RUNNER_OPTION,
        )
    if "checkpointing_interval" not in set_options:
        _LOG.warning(
            "without --checkpointing_interval Flink keeps no checkpoints, and a failure loses "
            "windows and restarts the stream from the beginning; give "
            "--checkpointing_interval=10000"
        )
    elif "job_endpoint" in set_options and (flink_of(options) is None or "job_name" in set_options):
        _LOG.warning(
            "Ctrl-C will keep no savepoint: give --flink_master HOST:PORT and no --job_name, or "
            "stop the stream at Flink"
        )
    warn_of_growth(options)

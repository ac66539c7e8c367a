"""The list of checks of each runner, which a launch enforces before any graph is built."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
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

from beam_fraud.beam_internals import declared_options
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.runners import prism
from beam_fraud.runners.address import Address, refuse_silent_pool
from beam_fraud.runners.call import Call, Target
from beam_fraud.runners.check import Caution, Finding, RunnerCheck
from beam_fraud.runners.dataflow import checks as dataflow
from beam_fraud.runners.downloads import JOB_SERVERS, refuse_missing_job_server
from beam_fraud.runners.environment import environment_of, refuse_environment, worker_pool
from beam_fraud.runners.flink import checks as flink
from beam_fraud.runners.flink.options import FlinkJobOptions
from beam_fraud.runners.runner import INSTEAD, Capability, Runner, refuse_unusable

_LOG = logging.getLogger(__name__)

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


def _options(call: Call) -> Iterator[Finding]:
    """Check the options, without asking any service."""
    options, runner = call.options, call.runner
    refuse_unusable(runner.name)
    if call.workers > 1 and (runner.portable or runner.workers_option):
        instead = f"give {runner.workers_option}=N" if runner.workers_option else "leave it out"
        raise UsageError(
            f"--workers {call.workers}: shares the work of this machine's own runner; with "
            f"--runner {runner.name} {instead}",
            Code.RUNNER_OPTION,
        )
    refuse_options_of_others(options, runner)
    if runner.local:
        if call.streaming:
            _refuse_several_processes(options)
        yield f"{runner.name} takes {call.what}"
        return
    if call.streaming:
        _refuse_incapable_of_streams(runner)
    if runner.may_be_flink:
        flink.refuse_parallelism(options)
    if runner.portable:
        # Both are parsed here, so that a wrong address is an error of the options.
        _ = call.flink, call.server
        if call.endpoint is None and runner.name == "PortableRunner":
            raise UsageError(
                "--runner PortableRunner: say which job server takes the pipeline, as in "
                "--job_endpoint=127.0.0.1:8099, or give FlinkRunner or PrismRunner",
                Code.RUNNER_OPTION,
            )
    yield f"{runner.name} takes {call.what}"
    if not runner.tried:
        yield _untried(runner)


def _untried(runner: Runner) -> Caution:
    found = f"--runner {runner.name} has not been tried with this pipeline"
    return Caution(found, "try it on little data")


def _refuse_several_processes(options: PipelineOptions) -> None:
    direct = options.view_as(DirectOptions)
    if direct.direct_num_workers != 1 or direct.direct_running_mode != "in_memory":
        raise UsageError(
            "--direct_num_workers, --direct_running_mode: a stream on this machine runs in one "
            "process; leave them out, or give another --runner",
            Code.RUNNER_OPTION,
        )


def _refuse_incapable_of_streams(runner: Runner) -> None:
    """Refuse a stream on a runner that lacks a required capability."""
    for capability in Capability:
        if capability not in runner.can:
            raise UsageError(
                f"--runner {runner.name}: cannot run this, which needs {capability.value}; "
                f"{INSTEAD}",
                Code.RUNNER_UNUSABLE,
            )


def _environment(call: Call) -> Iterator[Finding]:
    """Check that workers with this package can be started."""
    refuse_environment(call.options, call.runner, cluster=call.cluster)
    yield environment_of(call.options, call.runner)


def _job_server(call: Call) -> Iterator[Finding]:
    """Check that the job server answers for the runner, or that Beam can start its own."""
    runner, server = call.runner, call.server
    if server is not None:
        behind = call.behind
        if runner.name not in ("PortableRunner", behind or runner.name):
            raise UsageError(
                f"--job_endpoint {server}: the job server there is {behind}'s; give --runner "
                f"{behind}, or another address",
                Code.RUNNER_MISMATCH,
            )
        yield f"{server} answers, for {behind}" if behind else f"{server} answers"
        if runner.tried and not call.target.runner.tried:
            yield _untried(call.target.runner)
        return
    uber_jar = call.options.view_as(FlinkRunnerOptions).flink_submit_uber_jar
    if call.endpoint is None and runner.name in JOB_SERVERS and not uber_jar:
        refuse_missing_job_server(call.submission)
        yield "is Beam's own"


def _worker_pool(call: Call) -> Iterator[Finding]:
    """Check that a pool of workers answers; it may do so at a tunnel's end that looks local."""
    if environment_of(call.options, call.runner) != "EXTERNAL":
        return
    pool, cluster = worker_pool(call.options), call.cluster
    near = cluster is None or cluster.here
    if call.thorough or (near and pool.here):
        yield from pool_findings(pool, cluster)


def pool_findings(pool: Address, cluster: Address | None) -> Iterator[Finding]:
    """Check that a worker pool answers.

    Args:
      pool: address that task managers use.
      cluster: their address; None for this machine.

    Raises:
      FraudError: no pool answers.
    """
    if pool.here and cluster is not None and not cluster.here:
        yield Caution(
            f"{pool} is on each task manager's own machine, which doctor cannot check",
            "check there that it runs",
        )
        return
    refuse_silent_pool(pool)
    yield f"{pool} answers"


def _places(call: Call) -> Iterator[Finding]:
    """Name the places that a cluster must share: this machine cannot check that."""
    named = ", ".join(str(place) for place in call.places if place.local)
    cluster = call.cluster
    if cluster is not None and not cluster.here and named:
        yield Caution(f"workers at {cluster} must see the same files there: {named}")


def _validated(call: Call) -> Iterable[Finding]:
    """Check the options by Beam's own validation."""
    _refuse_invalid(call.options, call.runner)
    return ()


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


def _stream(call: Call) -> Iterator[Finding]:
    """Check that the runner behind a job server runs a stream, and how the stream ends there."""
    if not call.streaming:
        return
    runner, given = call.target.runner, call.beam_options
    _refuse_incapable_of_streams(runner)
    of_flink = runner.name == "FlinkRunner"
    if of_flink and call.until_idle and "shutdown_sources_after_idle_ms" not in given:
        raise UsageError(
            "--until-idle: on Flink a stream continues after its source has ended; leave it out "
            "and stop the stream by Ctrl-C, or give --shutdown_sources_after_idle_ms=1000 as well",
            Code.RUNNER_OPTION,
        )
    if call.until_idle and not of_flink and not runner.ends_streams:
        yield Caution("--until-idle: this runner may continue anyway", "stop the stream by Ctrl-C")
    if runner.may_be_flink and "checkpointing_interval" not in given:
        yield Caution(
            "without --checkpointing_interval Flink keeps no checkpoints, and a failure loses "
            "windows and restarts the stream from the beginning",
            "give --checkpointing_interval=10000",
            logged=of_flink,
        )
    elif of_flink and "job_endpoint" in given and (call.flink is None or "job_name" in given):
        yield Caution(
            "Ctrl-C will keep no savepoint: give --flink_master HOST:PORT and no --job_name, or "
            "stop the stream at Flink"
        )


_NEEDS = ("options", "job server", "job")
#: The checks of every runner, before and after those of a service.
_FIRST = (RunnerCheck("options", _options, needs=()),)
_LAST = (
    RunnerCheck("Beam", _validated, needs=_NEEDS),
    RunnerCheck("stream", _stream, needs=_NEEDS),
)
_ENVIRONMENT = RunnerCheck("environment", _environment)
_SERVER = (
    RunnerCheck("job server", _job_server, needs=("options", "environment", "Flink")),
    RunnerCheck("worker pool", _worker_pool, launch="log", needs=("options", "environment")),
    RunnerCheck("places", _places),
)
#: The checks of the services of one runner.
_OF_SERVICE = {
    "FlinkRunner": flink.CLUSTER,
    "PortableRunner": flink.CLUSTER,
    "PrismRunner": prism.CHECKS,
}


def checks_of(runner: Runner) -> tuple[RunnerCheck, ...]:
    """Return the checks of a runner, in order."""
    if runner.local:
        return _FIRST
    if runner.dataflow:
        return (*_FIRST, *dataflow.CHECKS, *_LAST)
    service = _OF_SERVICE.get(runner.name, ())
    served = (_ENVIRONMENT, *service, *_SERVER) if runner.portable else ()
    return (*_FIRST, *served, *_LAST, *(flink.STREAM if runner.may_be_flink else ()))


def enforce(call: Call) -> Target:
    """Check that the runner can carry out a call, and that its services answer.

    Returns:
      The destination of the pipeline.

    Raises:
      UsageError: the runner cannot run it, or an option is missing or has no effect.
      FraudError: an address does not answer.
    """
    for check in checks_of(call.runner):
        if check.launch == "skip":
            continue
        for finding in check.findings(call):
            if isinstance(finding, FraudError) and check.launch == "refuse":
                raise finding
            if isinstance(finding, FraudError) or (isinstance(finding, Caution) and finding.logged):
                _LOG.warning("%s", finding)
    return call.target

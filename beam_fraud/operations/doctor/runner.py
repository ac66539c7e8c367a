"""Check the services of a runner."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
)

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.operations.doctor.check import Check, failed, ok, refused, tried, warning
from beam_fraud.operations.doctor.flink import check_flink, check_growth
from beam_fraud.runners.address import Address, refuse_silent_pool, runner_behind
from beam_fraud.runners.dataflow.checks import dataflow_problems
from beam_fraud.runners.downloads import prism_program
from beam_fraud.runners.environment import environment_of, worker_pool
from beam_fraud.runners.flink.rest import flink_of
from beam_fraud.runners.refusal import refuse_unsupported
from beam_fraud.runners.submission import Submission

WORKER_POOL = "worker pool"
NAME = "Prism"
#: Go's record of the module in a program.
_BUILT_FROM = re.compile(rb"mod\tgithub\.com/apache/beam/sdks/v2\t(\S+)")


def check_worker_pool(pool: Address, cluster: Address | None) -> Check:
    """Check that a worker pool answers.

    Args:
      pool: address that task managers use.
      cluster: their address; None for this machine.

    Raises:
      FraudError: no pool answers.
    """
    if pool.here and cluster is not None and not cluster.here:
        return warning(
            WORKER_POOL,
            f"{pool} is on each task manager's own machine, which doctor cannot check",
            "check there that it runs",
        )
    refuse_silent_pool(pool)
    return ok(WORKER_POOL, f"{pool} answers")


def check_runner(submission: Submission, *, streaming: bool) -> Iterator[Check]:
    """Yield all checks that need no pipeline, as they complete.

    Args:
      submission: Beam's options and the runner.
      streaming: whether a stream will run there.
    """
    well = True
    for check in _surroundings(submission, streaming=streaming):
        well = well and check.state != "failed"
        yield check
    if well:
        yield _options(submission, streaming=streaming)


def _surroundings(submission: Submission, *, streaming: bool) -> Iterator[Check]:
    options, runner = submission.options, submission.runner
    try:
        if runner.portable:
            yield from _portable(submission, streaming=streaming)
        if runner.dataflow:
            yield _credentials()
            for problem in dataflow_problems(options):
                yield refused("options", UsageError(problem, Code.RUNNER_OPTION))
    except FraudError as error:
        yield refused("options", error)


def _portable(submission: Submission, *, streaming: bool) -> Iterator[Check]:
    options, runner = submission.options, submission.runner
    endpoint = options.view_as(PortableOptions).job_endpoint
    server = None if endpoint in (None, "embed") else Address.parse("--job_endpoint", endpoint)
    if server is not None:
        yield tried("job server", lambda: _job_server(server))
    if runner.name == "PrismRunner" and endpoint is None:
        yield tried("Prism", lambda: check_prism(options))
    flink = flink_of(options) if runner.may_be_flink else None
    behind = runner.name == "FlinkRunner" or (
        server is not None and runner.name == "PortableRunner"
    )
    if streaming and (flink is not None or behind):
        jar = options.view_as(FlinkRunnerOptions).flink_job_server_jar
        yield check_growth(jar, server)
    if flink is not None:
        yield from check_flink(
            flink,
            parallelism=options.view_as(FlinkRunnerOptions).parallelism,
            streaming=streaming,
            storage=options.get_all_options(drop_default=True).get("state_backend_storage_path"),
        )
    elif behind:
        yield warning(
            "Flink",
            "only the job server knows its address, so it is not checked",
            "give --flink_master=HOST:PORT; without it a stopped job continues there",
        )
    kind = environment_of(options, runner)
    if kind == "EXTERNAL":
        pool = worker_pool(options)
        yield tried(
            WORKER_POOL, lambda: check_worker_pool(pool, flink.address if flink else server)
        )


def _job_server(server: Address) -> str:
    behind = runner_behind(server)
    return f"{server} answers, for {behind}" if behind else f"{server} answers"


def _options(submission: Submission, *, streaming: bool) -> Check:
    """Check the options; the last check, which repeats those above."""
    runner, what = submission.runner, "a stream" if streaming else "files"
    try:
        refuse_unsupported(submission, streaming=streaming)
    except FraudError as error:
        return refused("options", error)
    if streaming and runner.may_be_flink:
        beam_options = submission.options.get_all_options(drop_default=True)
        if beam_options.get("checkpointing_interval") is None:
            return warning(
                "options",
                f"{runner.name} takes {what}, but keeps no checkpoints",
                "give --checkpointing_interval=10000",
            )
    return ok("options", f"{runner.name} takes {what}")


def _credentials() -> Check:
    """Check where Google's libraries find a login, without using it."""
    name = "credentials"
    file = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if file is not None:
        if not Path(file).is_file():
            fix = "mend GOOGLE_APPLICATION_CREDENTIALS"
            return failed(name, f"{file} is not there", fix)
        return ok(name, f"of {file}")
    home = os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config/gcloud"
    login = Path(home) / "application_default_credentials.json"
    if login.is_file():
        return ok(name, f"of {login}")
    return warning(
        name,
        "none on this machine, unless it is one of Google's",
        "gcloud auth application-default login",
    )


def check_prism(options: PipelineOptions) -> Check:
    """Check that Prism exists and was built from the installed Beam.

    Raises:
      FraudError: there is no Prism.
    """
    program, beam = prism_program(options), version("apache-beam")
    built = _version(program)
    if built is None:
        return warning(NAME, f"{program} does not report its version", f"check that it is {beam}")
    if built != f"v{beam}":
        fix = f"go install github.com/apache/beam/sdks/v2/go/cmd/prism@v{beam}"
        return failed(NAME, f"{program} is {built}, apache-beam is {beam}", fix)
    return ok(NAME, f"{program} is {built}, as apache-beam is")


def _version(program: Path) -> str | None:
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        match = _BUILT_FROM.search(text)
        built = match[1].decode() if match else None
    # A program of Beam's own release has no version.
    return None if built in (None, "(devel)") else built

"""Programs that Beam fetches for a runner, fetched before anything is begun."""

from __future__ import annotations

import shutil
from pathlib import Path

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    JobServerOptions,
    PipelineOptions,
    PrismRunnerOptions,
)

from beam_fraud.errors import FraudError, UsageError


def refuse_missing_job_server(options: PipelineOptions) -> None:
    """See that Java and Flink's job server are there, where Beam is to start one.

    Raises:
      UsageError: there is no Java, or no such file.
      FraudError: the job server could not be fetched.
    """
    from apache_beam.runners.portability.flink_runner import FlinkJarJobServer

    java = options.view_as(JobServerOptions).job_server_java_launcher
    if shutil.which(java) is None:
        raise UsageError(
            f"--runner FlinkRunner: its job server needs Java, and there is no program {java!r}; "
            "install it, or give the --job_endpoint of one that runs"
        )
    given = options.view_as(FlinkRunnerOptions).flink_job_server_jar
    if given and "://" not in given and not Path(given).exists():
        raise UsageError(f"--flink_job_server_jar {given}: no such file")
    try:
        FlinkJarJobServer.local_jar(FlinkJarJobServer(options).path_to_jar(), _jar_cache(options))
    except Exception as error:
        raise FraudError(
            f"--runner FlinkRunner: its job server could not be fetched ({_first_line(error)}); "
            "give --flink_job_server_jar, or the --job_endpoint of one that runs"
        ) from None


def _jar_cache(options: PipelineOptions) -> str | None:
    directory = options.view_as(JobServerOptions).jar_cache_dir
    return None if directory is None else str(directory)


def prism_program(options: PipelineOptions) -> Path:
    """The Prism program, fetched if it is not there.

    Raises:
      UsageError: `--prism_location` names nothing.
      FraudError: it could not be fetched.
    """
    from apache_beam.runners.portability.prism_runner import PrismJobServer

    given = options.view_as(PrismRunnerOptions).prism_location
    if given and Path(given).is_file():
        return Path(given)
    if given and "://" not in given:
        raise UsageError(f"--prism_location {given}: no such file; give Prism's program or zip")
    try:
        command, _ = PrismJobServer(options).subprocess_cmd_and_endpoint()
        return Path(str(command[0]))
    except Exception as error:
        raise FraudError(
            f"--runner PrismRunner: Prism could not be fetched ({_first_line(error)}); give "
            "--prism_location, the program that `go install "
            "github.com/apache/beam/sdks/v2/go/cmd/prism` makes"
        ) from None


def _first_line(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).splitlines()[0].split())[:300]

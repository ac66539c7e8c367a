"""Programs that Beam fetches for a runner, fetched before anything is begun."""

from __future__ import annotations

import errno
import logging
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zipfile import is_zipfile

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    JobServerOptions,
    PipelineOptions,
    PrismRunnerOptions,
    SparkRunnerOptions,
)

from beam_fraud import beam_internals
from beam_fraud.errors import FraudError, UsageError
from beam_fraud.wording import first_line


@dataclass(frozen=True)
class _JobServer:
    """A job server that Beam starts for one pipeline."""

    #: Whose option names its jar.
    options: type[PipelineOptions]
    #: That option.
    jar: str
    #: How a user comes by one.
    instead: str = ""


_JOB_SERVERS = {
    "FlinkRunner": _JobServer(
        FlinkRunnerOptions,
        "flink_job_server_jar",
        " (deploy/flink makes one for Flink 1.19)",
    ),
    "SparkRunner": _JobServer(
        SparkRunnerOptions,
        "spark_job_server_jar",
    ),
}


def refuse_missing_job_server(runner: str, options: PipelineOptions) -> None:
    """See that Java and the runner's job server are there, where Beam is to start one.

    Does nothing for a runner without one.

    Raises:
      UsageError: there is no Java, or no such file.
      FraudError: the job server could not be fetched.
    """
    if runner not in _JOB_SERVERS:
        return
    wanted = _JOB_SERVERS[runner]
    java = options.view_as(JobServerOptions).job_server_java_launcher
    if shutil.which(java) is None:
        raise UsageError(
            f"--runner {runner}: its job server needs Java, and there is no program {java!r}; "
            "install it, or give the --job_endpoint of one that runs"
        )
    given = getattr(options.view_as(wanted.options), wanted.jar)
    if given and "://" not in given and not Path(given).exists():
        raise UsageError(f"--{wanted.jar} {given}: no such file")
    try:
        with _told_once():
            beam_internals.job_server_jar(runner, options)
    except Exception as error:
        raise FraudError(
            f"--runner {runner}: its job server could not be fetched ({_reason(error)}); "
            f"give --{wanted.jar}{wanted.instead}, or the --job_endpoint of one that runs"
        ) from None


@contextmanager
def _told_once() -> Iterator[None]:
    """Keep Beam from warning of what the command is about to say itself."""
    logger = logging.getLogger("apache_beam.utils.subprocess_server")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def prism_program(options: PipelineOptions) -> Path:
    """Return the Prism program, fetched if it is not there.

    Raises:
      UsageError: `--prism_location` names nothing.
      FraudError: it could not be fetched.
    """
    given = options.view_as(PrismRunnerOptions).prism_location
    if given and Path(given).is_file():
        _refuse_no_program(Path(given))
        return Path(given)
    if given and "://" not in given:
        what = "is a directory" if Path(given).is_dir() else "no such file"
        raise UsageError(f"--prism_location {given}: {what}; give Prism's program or zip")
    try:
        return Path(beam_internals.prism_program(options))
    except Exception as error:
        raise FraudError(
            f"--runner PrismRunner: Prism could not be fetched ({_reason(error)}); give "
            "--prism_location, the program that `go install "
            "github.com/apache/beam/sdks/v2/go/cmd/prism` makes"
        ) from None


def _refuse_no_program(prism: Path) -> None:
    """See that this machine can run it, before Beam tries three times."""
    if is_zipfile(prism):
        return
    try:
        subprocess.run([prism, "--help"], capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return
    except OSError as error:
        # Beam makes what may not be run a program, so that alone is no reason.
        if error.errno != errno.EACCES or not _is_program(prism):
            raise UsageError(
                f"--prism_location {prism}: is no program of this machine ({error.strerror}); "
                "give Prism's program or zip"
            ) from None


def _is_program(file: Path) -> bool:
    with file.open("rb") as opened:
        # Of Linux and of macOS.
        return opened.read(4) in (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")


def _reason(error: Exception) -> str:
    # Beam goes on about each place that it has tried.
    return first_line(error).partition(". ")[0][:300]

"""Download the programs that Beam needs for a runner, before anything else starts."""

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
    JobServerOptions,
)

from beam_fraud import beam_internals
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.runners.submission import Submission
from beam_fraud.wording import first_line


@dataclass(frozen=True)
class _JobServer:
    """A job server that Beam starts for one pipeline."""

    #: The option that names its jar.
    jar: str
    #: How to get one.
    instead: str = ""


JOB_SERVERS = {
    "FlinkRunner": _JobServer(
        "flink_job_server_jar",
        " (deploy/flink makes one for Flink 1.19)",
    ),
    "SparkRunner": _JobServer(
        "spark_job_server_jar",
    ),
}


def refuse_missing_job_server(submission: Submission) -> None:
    """Check that Java and the job server of `JOB_SERVERS` exist, if Beam is to start one.

    Raises:
      UsageError: Java or the file is missing.
      FraudError: the job server could not be downloaded.
    """
    runner, options = submission.runner.name, submission.options
    job_server = JOB_SERVERS[runner]
    java = options.view_as(JobServerOptions).job_server_java_launcher
    if shutil.which(java) is None:
        raise UsageError(
            f"--runner {runner}: its job server needs Java, and there is no program {java!r}; "
            "install it, or give the --job_endpoint of one that runs",
            Code.PROGRAM_MISSING,
        )
    jar = submission.place(job_server.jar)
    if jar is not None and jar.local is not None and not jar.local.exists():
        raise UsageError(f"--{job_server.jar} {jar.shown}: no such file", Code.PROGRAM_MISSING)
    try:
        with _told_once():
            beam_internals.job_server_jar(runner, options)
    except Exception as error:
        raise FraudError(
            f"--runner {runner}: its job server could not be fetched ({_reason(error)}); "
            f"give --{job_server.jar}{job_server.instead}, or the --job_endpoint of one that runs",
            Code.PROGRAM_MISSING,
        ) from None


@contextmanager
def _told_once() -> Iterator[None]:
    """Suppress Beam's warnings that the command's own error repeats."""
    logger = logging.getLogger("apache_beam.utils.subprocess_server")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def prism_program(submission: Submission) -> Path:
    """Return the Prism program, downloaded if missing.

    Raises:
      UsageError: `--prism_location` does not exist.
      FraudError: it could not be downloaded.
    """
    place = submission.place("prism_location")
    program = None if place is None else place.local
    if program is not None and program.is_file():
        _refuse_no_program(program)
        return program
    if place is not None and program is not None:
        what = "is a directory" if program.is_dir() else "no such file"
        raise UsageError(
            f"--prism_location {place.shown}: {what}; give Prism's program or zip",
            Code.PROGRAM_MISSING,
        )
    try:
        return Path(beam_internals.prism_program(submission.options))
    except Exception as error:
        raise FraudError(
            f"--runner PrismRunner: Prism could not be fetched ({_reason(error)}); give "
            "--prism_location, the program that `go install "
            "github.com/apache/beam/sdks/v2/go/cmd/prism` makes",
            Code.PROGRAM_MISSING,
        ) from None


def _refuse_no_program(prism: Path) -> None:
    """Check that this machine can run it, before Beam tries three times."""
    if is_zipfile(prism):
        return
    try:
        subprocess.run([prism, "--help"], capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return
    except OSError as error:
        # Beam sets the executable bit, so its absence alone is no error.
        if error.errno != errno.EACCES or not _is_program(prism):
            raise UsageError(
                f"--prism_location {prism}: is no program of this machine ({error.strerror}); "
                "give Prism's program or zip",
                Code.PROGRAM_MISSING,
            ) from None


def _is_program(file: Path) -> bool:
    with file.open("rb") as opened:
        # Magic bytes of Linux and macOS programs.
        return opened.read(4) in (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")


def _reason(error: Exception) -> str:
    # Beam's message continues with each location that it tried.
    return first_line(error).partition(". ")[0][:300]

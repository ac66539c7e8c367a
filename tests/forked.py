"""Commands of `beam-fraud` as processes that have imported the program when they start.

Imports take a command seconds, which no test is about that kills and starts it again.
"""

from __future__ import annotations

import atexit
import faulthandler
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

#: Imported once: each process is a fork of one that has imported them and done nothing else.
_PRELOADED = (
    "apache_beam",
    "beam_fraud.cli.commands.serve",
    "beam_fraud.cli.commands.stream",
    "beam_fraud.serve.http.server",
    "confluent_kafka",
    "sklearn.calibration",
    "sklearn.ensemble",
    "sklearn.pipeline",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "uvicorn",
)
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(list(_PRELOADED))


def start(
    arguments: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    *,
    directory: Path | None = None,
    look: float | None = None,
) -> ForkServerProcess:
    """Start a command in a session of its own.

    Args:
      arguments: of the command.
      log: file that its output is appended to.
      environment: its whole environment.
      directory: where it runs; that of this process by default.
      look: seconds between two looks for another champion; None as in the field.
    """
    place = str(directory or Path.cwd())
    log.touch()
    process = _FORKS.Process(
        target=_run, args=(list(arguments), str(log), dict(environment), place, look)
    )
    process.start()
    return process


def _run(
    arguments: list[str],
    log: str,
    environment: Mapping[str, str],
    directory: str,
    look: float | None,
) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(directory)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    read = os.open(os.devnull, os.O_RDONLY)
    for descriptor, standard in ((read, 0), (written, 1), (written, 2)):
        os.dup2(descriptor, standard)
    import beam_fraud.__main__
    from beam_fraud.cli import main
    from beam_fraud.models.registry import champion_watch

    if look is not None:
        champion_watch.LOOK_SECONDS = look
    sys.argv = [str(beam_fraud.__main__.__file__), *arguments]
    # SIGABRT writes down what every thread does: here, as a stream moves its standard error.
    faulthandler.enable(written)
    try:
        code = main(arguments)
    finally:
        # As at the end of any process: Beam, for one, stops its servers.
        atexit._run_exitfuncs()
    sys.exit(code)

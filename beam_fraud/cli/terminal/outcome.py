"""How a command ends: its result on standard output or one line on standard error, and a code."""

from __future__ import annotations

import io
import logging
import os
import sys

from beam_fraud.cli.terminal import interruption
from beam_fraud.errors import Code, FraudError, fraud_error_in, line_of, refused_by_the_system

logger = logging.getLogger(__name__)


def prepare() -> None:
    """Open /dev/null for a standard stream that is closed; escape what an encoding lacks.

    The next file that is opened would get a closed descriptor, and messages would go into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None and not _is_open(number):
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_result(text: str) -> int:
    """Print the result of a command; returns the exit code."""
    try:
        print(text, flush=True)
    except OSError as error:
        return output_failed(error)
    return 0


def output_failed(error: OSError) -> int:
    """Say why standard output cannot be written; returns the exit code."""
    # What it could not take waits in its buffer: Python would complain of it again at its exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        # Nobody reads any more, which is how `head` ends what stands before it.
        return 1
    line = f"standard output cannot be written ({error.strerror})"
    return report(FraudError(line, Code.OUTPUT_UNWRITABLE))


def report(error: BaseException) -> int:
    """Log a failure as one line with its code and return the exit code of the command.

    An error that a user can cause is its own line, and so is what the operating system refuses.
    Anything else is a bug of this program: the line says so. The traceback of both goes where
    tracebacks are shown (see `log.configure`).

    Args:
      error: what ended the command, as it was raised here or as a runner passed it on.
    """
    stopped = interruption.stopped()
    if stopped is not None:
        # Whatever a runner made of it on the way here.
        return _log(*stopped)
    if isinstance(error, KeyboardInterrupt):
        return _log("interrupted", 130)
    known = fraud_error_in(error)
    if known is not None:
        return _log(str(known), known.exit_code, known.code)
    refused = refused_by_the_system(error)
    if refused is not None:
        return _log(refused, 1, Code.SYSTEM_REFUSAL, error)
    line = f"internal error: {line_of(error)}"
    line = f"{line}; run again with --log-level debug for the traceback"
    return _log(line, 1, Code.INTERNAL_ERROR, error)


def _log(
    line: str, exit_code: int, code: Code | None = None, bug: BaseException | None = None
) -> int:
    logger.error("%s", line, exc_info=bug, extra={"failure": True, "code": code})
    return exit_code


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True

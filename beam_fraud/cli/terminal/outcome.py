"""The end of a command: print the result or one line of failure, and set the exit code."""

from __future__ import annotations

import io
import logging
import os
import sys

from beam_fraud.cli.terminal import interruption
from beam_fraud.errors import Code, FraudError, fraud_error_in, line_of, refused_by_the_system

logger = logging.getLogger(__name__)


def prepare() -> None:
    """Open /dev/null for closed standard streams; escape characters outside the encoding.

    Otherwise the next opened file would get a closed stream's descriptor, and the messages.
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
    """Print the result of a command; return the exit code."""
    try:
        print(text, flush=True)
    except OSError as error:
        return output_failed(error)
    return 0


def output_failed(error: OSError) -> int:
    """Report why standard output cannot be written; return the exit code."""
    # Discard the unwritten buffer: Python would report it again at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        # The reader has closed the pipe, as `head` does.
        return 1
    line = f"standard output cannot be written ({error.strerror})"
    return report(FraudError(line, Code.OUTPUT_UNWRITABLE))


def report(error: BaseException) -> int:
    """Log a failure as one line with its code and return the exit code of the command.

    Errors that users can cause have their own line, as do errors of the operating system. Anything
    else is a bug of this program, and the line says so. Tracebacks go where they are shown (see
    `log.configure`).

    Args:
      error: the error that ended the command, raised here or passed on by a runner.
    """
    stopped = interruption.stopped()
    if stopped is not None:
        # In any form in which a runner passes it on.
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

"""Standard output and error as a caller may leave them: closed, full, of few characters."""

from __future__ import annotations

import io
import os
import sys

from beam_fraud.cli.terminal import failure
from beam_fraud.errors import FraudError


def prepare() -> None:
    """Put /dev/null where a stream is closed, and escapes for what an encoding lacks.

    A closed descriptor would be the next file's that is opened, and messages would go into it.
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
    """Print what a command has found; returns the exit code."""
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
    return failure.report(FraudError(f"standard output cannot be written ({error.strerror})"))


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True

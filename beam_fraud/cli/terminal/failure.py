"""How a command fails: one line on standard error and an exit code."""

from __future__ import annotations

import logging

from beam_fraud.cli.terminal import interruption
from beam_fraud.errors import fraud_error_in, line_of, refused_by_the_system

logger = logging.getLogger(__name__)


def report(error: BaseException) -> int:
    """Log a failure as one line and return the exit code of the command.

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
        return _log(str(known), known.exit_code)
    refused = refused_by_the_system(error)
    if refused is not None:
        return _log(refused, 1, error)
    line = f"internal error: {line_of(error)}"
    return _log(f"{line}; run again with --log-level debug for the traceback", 1, error)


def _log(line: str, exit_code: int, bug: BaseException | None = None) -> int:
    logger.error("%s", line, exc_info=bug, extra={"failure": True})
    return exit_code

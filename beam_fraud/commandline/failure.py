"""How a command fails: one line on standard error and an exit code."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

from beam_fraud.commandline import interruption
from beam_fraud.commandline.system_failure import system_failure
from beam_fraud.errors import FraudError

logger = logging.getLogger(__name__)

#: What Beam appends to the message of an exception that passes through a step.
_WHILE_RUNNING = re.compile(r"(?: \[while running '[^\n]*'\])+\s*$")
#: The last line of a traceback that ends in one of the package's own errors.
_IN_TRACEBACK = re.compile(rf"\b{re.escape(FraudError.__module__)}\.(\w+): ([^\n]*)")
#: The line after the indented ones of a traceback, which says what was raised.
_END_OF_TRACEBACK = re.compile(r"^ +\S.*\n(\S.*)", re.MULTILINE)


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
    refused = _refused_by_the_system(error)
    if refused is not None:
        return _log(refused, 1, error)
    line = f"internal error: {line_of(error)}"
    return _log(f"{line}; run again with --log-level debug for the traceback", 1, error)


def _refused_by_the_system(error: BaseException) -> str | None:
    for link in _chain(error):
        told = system_failure(link, _raised(link))
        if told is not None:
            return told
    return None


def fraud_error_in(error: BaseException) -> FraudError | None:
    """The package's own error that `error` is, was caused by, or carries as a runner's text.

    A runner that works in other threads or processes raises a RuntimeError whose message holds
    the traceback of the step that failed; the step's name that Beam adds is taken off.
    """
    for link in _chain(error):
        if isinstance(link, FraudError):
            return type(link)(_WHILE_RUNNING.sub("", str(link)))
        found = _IN_TRACEBACK.findall(str(link))
        if found:
            name, line = found[-1]
            kinds = {kind.__name__: kind for kind in FraudError.__subclasses__()}
            return kinds.get(name, FraudError)(_WHILE_RUNNING.sub("", line))
    return None


def line_of(error: BaseException) -> str:
    """An error in one line: in words if a user can cause it, else what was raised.

    Args:
      error: as it was raised here, or with a runner's text of what was raised elsewhere.
    """
    known = fraud_error_in(error) or _refused_by_the_system(error)
    return _WHILE_RUNNING.sub("", _raised(error)) if known is None else str(known)


def _raised(error: BaseException) -> str:
    """What was raised, and its first line; of a runner's text, what was raised elsewhere."""
    raised = _END_OF_TRACEBACK.findall(str(error)) if "Traceback (most" in str(error) else ()
    if raised:
        return str(raised[-1])
    summary = " ".join(str(error).partition("\n")[0].split())
    return f"{type(error).__name__}: {summary}".rstrip(": ")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, then what it was raised from; not what it happened to be raised beside."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _log(line: str, exit_code: int, bug: BaseException | None = None) -> int:
    logger.error("%s", line, exc_info=bug, extra={"failure": True})
    return exit_code

"""A check and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from beam_fraud.errors import Code, FraudError


@dataclass(frozen=True)
class Check:
    """A check: its subject, its result and the fix."""

    #: Subject, such as "task slots".
    name: str
    #: A pipeline fails if a check failed; a warning may affect it.
    state: Literal["ok", "warning", "failed"]
    #: Result, one line.
    found: str
    #: The fix, or "".
    fix: str = ""
    #: Of the error, if the check has failed with one.
    code: Code | None = None


def ok(name: str, finding: str) -> Check:
    """Return a passed check."""
    return Check(name, "ok", finding)


def warning(name: str, finding: str, fix: str) -> Check:
    """Return a check with a warning."""
    return Check(name, "warning", finding, fix)


def failed(name: str, finding: str, fix: str) -> Check:
    """Return a failed check."""
    return Check(name, "failed", finding, fix)


def tried(name: str, look: Callable[[], str | Check]) -> Check:
    """Run a check; split the line of a FraudError into result and fix.

    Args:
      name: name of the check.
      look: returns the result, or a complete check.
    """
    try:
        finding = look()
    except FraudError as error:
        return refused(name, error)
    return finding if isinstance(finding, Check) else ok(name, finding)


def refused(name: str, error: FraudError) -> Check:
    """Return a failed check from an error of this package.

    >>> from dataclasses import astuple
    >>> astuple(refused("model", FraudError("b: changed; copy it again", Code.BUNDLE_DAMAGED)))
    ('model', 'failed', 'b: changed', 'copy it again', <Code.BUNDLE_DAMAGED: 'BF402'>)
    """
    finding, _, fix = str(error).partition("; ")
    return Check(name, "failed", finding, fix, error.code)

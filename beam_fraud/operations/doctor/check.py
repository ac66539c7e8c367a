"""One look at the surroundings, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from beam_fraud.errors import Code, FraudError


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, and what to do about it."""

    #: As in "task slots".
    name: str
    #: A pipeline fails where a check has failed; it may suffer from what a warning says.
    state: Literal["ok", "warning", "failed"]
    #: One line.
    found: str
    #: What to do, or "".
    fix: str = ""
    #: Of the error, if the check has failed with one.
    code: Code | None = None


def ok(name: str, found: str) -> Check:
    """Return all is well."""
    return Check(name, "ok", found)


def warning(name: str, found: str, fix: str) -> Check:
    """Return a pipeline may suffer from it."""
    return Check(name, "warning", found, fix)


def failed(name: str, found: str, fix: str) -> Check:
    """Return a pipeline fails of it."""
    return Check(name, "failed", found, fix)


def tried(name: str, look: Callable[[], str | Check]) -> Check:
    """Return what a look gives; where it refuses, its line is cut into what was found and the fix.

    Args:
      name: of the check.
      look: returns what it has found, or a check that it made itself.
    """
    try:
        found = look()
    except FraudError as error:
        return refused(name, error)
    return found if isinstance(found, Check) else ok(name, found)


def refused(name: str, error: FraudError) -> Check:
    """Return a check that has failed with a line of this package.

    >>> from dataclasses import astuple
    >>> astuple(refused("model", FraudError("b: changed; copy it again", Code.BUNDLE_DAMAGED)))
    ('model', 'failed', 'b: changed', 'copy it again', <Code.BUNDLE_DAMAGED: 'BF402'>)
    """
    found, _, fix = str(error).partition("; ")
    return Check(name, "failed", found, fix, error.code)

"""A check of a runner, which a launch enforces and `doctor` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from beam_fraud.errors import FraudError
from beam_fraud.runners.call import Call


@dataclass(frozen=True)
class Caution:
    """A circumstance that may affect a pipeline, and the fix."""

    #: One line.
    found: str
    #: The fix, or "".
    fix: str = ""
    #: Whether a launch logs it; `doctor` always prints it.
    logged: bool = True

    def __str__(self) -> str:
        return f"{self.found}; {self.fix}" if self.fix else self.found


#: What a check finds: a line that all is well, a caution, or an obstacle.
Finding = str | Caution | FraudError


@dataclass(frozen=True)
class RunnerCheck:
    """A check: `look` yields what it finds, and raises or yields obstacles."""

    #: Subject, such as "task slots".
    name: str
    look: Callable[[Call], Iterable[Finding]]
    #: What a launch does: refuse the call for an obstacle, log it, or skip the check.
    launch: Literal["refuse", "log", "skip"] = "refuse"
    #: Names of the checks without whose success this one finds nothing new.
    needs: tuple[str, ...] = ("options",)

    def findings(self, call: Call) -> Iterator[Finding]:
        """Yield what the check finds."""
        try:
            yield from self.look(call)
        except FraudError as error:
            yield error

"""The decision on a transaction that is not scored in time."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beam_fraud.decisions.decision import APPROVE, DECLINE, REVIEW
from beam_fraud.errors import Code, UsageError

_DECISIONS = (APPROVE, REVIEW, DECLINE)
_BRANCH = re.compile(r"(\w+)<([0-9]+(?:\.[0-9]+)?)")


@dataclass(frozen=True)
class Fallback:
    """A decision, or decisions by amount."""

    #: Amounts below which a decision holds, ascending, each with the decision.
    below: tuple[tuple[float, str], ...]
    #: The decision on all others.
    otherwise: str

    @classmethod
    def parse(cls, text: str) -> Fallback:
        """Return the fallback of `--on-timeout`.

        Raises:
          UsageError: it is none.

        Example:
          >>> Fallback.parse("approve<100,else=review")
          Fallback(below=((100.0, 'approve'),), otherwise='review')
        """
        *branches, last = [part.strip() for part in text.split(",")]
        otherwise = last.removeprefix("else=") if branches else last
        below = []
        for branch in branches:
            match = _BRANCH.fullmatch(branch)
            if match is None or match[1] not in _DECISIONS:
                raise _invalid(text)
            below.append((float(match[2]), match[1]))
        if otherwise not in _DECISIONS or (branches and not last.startswith("else=")):
            raise _invalid(text)
        if below != sorted(below, key=lambda branch: branch[0]):
            raise _invalid(text)
        return cls(tuple(below), otherwise)

    def decide(self, amounts: npt.NDArray[np.float64]) -> list[str]:
        """Return the decision on each amount, float64[n].

        Example:
          >>> Fallback.parse("approve<100,else=review").decide(np.array([99.0, 100.0]))
          ['approve', 'review']
        """
        limits = np.array([limit for limit, _ in self.below])
        names = [*(name for _, name in self.below), self.otherwise]
        return [names[place] for place in limits.searchsorted(amounts, "right").tolist()]


def _invalid(text: str) -> UsageError:
    return UsageError(
        f"--on-timeout {text}: give approve, review or decline, or by rising amounts such as "
        "approve<100,else=review",
        Code.OPTION_VALUE,
    )

"""Answers of a database that stay answers for some seconds."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class KeptAnswers(Generic[_T]):
    """Answers by what was asked, in the memory of this process."""

    def __init__(self, seconds: float, most: int) -> None:
        """Begin without any.

        Args:
          seconds: how long an answer stays.
          most: answers that are kept at once.
        """
        self._seconds, self._most = seconds, most
        #: Answers, and until when each stays.
        self._kept: dict[Hashable, tuple[float, _T]] = {}

    def get(self, asked: Hashable) -> _T | None:
        """Return what was answered a few seconds ago; None if nothing was."""
        until, answer = self._kept.get(asked, (0.0, None))
        return answer if time.monotonic() < until else None

    def keep(self, asked: Hashable, answer: _T) -> None:
        """Keep an answer."""
        if len(self._kept) >= self._most:
            self._kept.clear()
        self._kept[asked] = time.monotonic() + self._seconds, answer

"""Waiting for what is away, in words: when it begins, every 30 seconds, when it is over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

#: Seconds between two lines of one wait.
EVERY_SECONDS = 30.0
#: Says what is safe while this process waits; set for as long as a run lasts.
_safe: Callable[[], str] | None = None


@contextmanager
def safe_meanwhile(say: Callable[[], str]) -> Iterator[None]:
    """While the body runs, every line of a wait ends in what `say` returns; it may return ""."""
    global _safe
    before, _safe = _safe, say
    try:
        yield
    finally:
        _safe = before


class Wait:
    """One wait, told by the logger of whoever waits.

    `goes_on` may be called at every look: it says something at the first and every 30 seconds.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = monotonic) -> None:
        """Be ready to wait."""
        self._log = log
        self._clock = clock
        self._since = self._told_at = 0.0
        #: Whether something is waited for.
        self.lasts = False

    @property
    def seconds(self) -> float:
        """For how long it has lasted; 0 if it does not."""
        return self._clock() - self._since if self.lasts else 0.0

    def goes_on(self, why: str) -> None:
        """Say why there is a wait: now if that begins, else if 30 seconds have passed in silence.

        Args:
          why: one line, of the thing, the place and what the wait is for.
        """
        now = self._clock()
        if not self.lasts:
            self.lasts, self._since, self._told_at = True, now, now
            self._log.warning("%s%s", why, _meanwhile())
        elif now - self._told_at >= EVERY_SECONDS:
            self._told_at = now
            self._log.warning(
                "%s; waiting for %.0f seconds by now%s", why, now - self._since, _meanwhile()
            )

    def over(self, what: str) -> None:
        """Say that it is over, if there was one.

        Args:
          what: what is back, as in `database cards.db: back`; how long it took is added.
        """
        if self.lasts:
            self._log.info("%s after %.1f seconds", what, self.seconds)
            self.lasts = False


def _meanwhile() -> str:
    said = "" if _safe is None else _safe()
    return f"; {said}" if said else ""

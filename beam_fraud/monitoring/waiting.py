"""Log waits: at their start, every 30 seconds and at their end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

#: Seconds between two lines of one wait.
EVERY_SECONDS = 30.0
#: Returns what is safe during a wait; set for the duration of a run.
_safe: Callable[[], str] | None = None


@contextmanager
def safe_meanwhile(say: Callable[[], str]) -> Iterator[None]:
    """Append the text of `say`, possibly "", to every line of a wait while the body runs."""
    global _safe
    before, _safe = _safe, say
    try:
        yield
    finally:
        _safe = before


class Wait:
    """A wait, logged by the waiter's logger.

    Call `goes_on` at every poll: it logs the first time and every 30 seconds.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = monotonic) -> None:
        self._log = log
        self._clock = clock
        self._since = self._logged_at = 0.0
        #: Whether a wait is on.
        self.lasts = False

    @property
    def seconds(self) -> float:
        """Its duration in seconds; 0 without a wait."""
        return self._clock() - self._since if self.lasts else 0.0

    def goes_on(self, why: str) -> None:
        """Log the reason of a wait at its start and every 30 seconds.

        Args:
          why: one line with the thing, the place and the purpose of the wait.
        """
        now = self._clock()
        if not self.lasts:
            self.lasts, self._since, self._logged_at = True, now, now
            self._log.warning("%s%s", why, _meanwhile())
        elif now - self._logged_at >= EVERY_SECONDS:
            self._logged_at = now
            self._log.warning(
                "%s; waiting for %.0f seconds by now%s", why, now - self._since, _meanwhile()
            )

    def over(self, what: str) -> None:
        """Log the end of a wait, if there was one.

        Args:
          what: what is back, as in `database cards.db: back`; the duration is appended.
        """
        if self.lasts:
            self._log.info("%s after %.1f seconds", what, self.seconds)
            self.lasts = False


def _meanwhile() -> str:
    text = "" if _safe is None else _safe()
    return f"; {text}" if text else ""

"""The age of a server's windows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

#: Reason of answers without windows.
STALE = "stale_windows"


@dataclass(frozen=True)
class Staleness:
    """From which age windows are not used."""

    #: Seconds.
    seconds: float
    #: Whether to score without them, or to refuse.
    then: Literal["score", "refuse"]


class Freshness:
    """Check of the age of the windows against a limit.

    The windows lack what happened while no server recorded, and what a followed topic still holds.

    Args:
      limit: the limit; None for none.
      stopped_for: seconds between the last commit and this start; None for new windows.
      follows: whether a topic is followed, which brings what happened meanwhile.
    """

    def __init__(
        self, limit: Staleness | None, stopped_for: float | None, *, follows: bool
    ) -> None:
        self._limit = limit
        self._gap = 0.0 if follows or stopped_for is None else stopped_for
        #: Time to which the topic was read; None without one. Set by the follower.
        self._read_until: float | None = time.time() - (stopped_for or 0.0) if follows else None

    def read(self, until: float) -> None:
        """Note that the topic was read to messages of this time, seconds of the epoch."""
        self._read_until = until

    @property
    def age(self) -> float:
        """Seconds that the windows lack."""
        if self._read_until is None:
            return self._gap
        return max(time.time() - self._read_until, 0.0)

    def degraded(self) -> str | None:
        """Return why windows are not used, or None."""
        limit = self._limit
        return STALE if limit is not None and self.age > limit.seconds else None

    def refused(self) -> str | None:
        """Return why requests are refused, in words; or None."""
        limit = self._limit
        if limit is None or limit.then != "refuse" or self.degraded() is None:
            return None
        return f"the windows lack the last {self.age:.0f} seconds"

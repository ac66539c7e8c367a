"""A circuit breaker: what keeps failing is left alone for a while."""

from __future__ import annotations

import random
from dataclasses import dataclass

#: Failures in a row after which it is open.
OPENS_AFTER = 3
#: Seconds of the pause after the first failure; doubled by each that follows, up to the second.
#: The first is short: a receiver that fails now and then is no reason to be slow.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 60.0


@dataclass
class Circuit:
    """Whether something may be tried now. Times are seconds on a clock that nobody sets.

    Every failure makes a pause, each up to twice as long as the one before. After a pause one
    trial is due: if it fails the next pause begins, if it succeeds all is well again. The pauses
    are drawn at random between a half and all of their length, so that those who failed together do
    not come back together.
    """

    #: Failures in a row.
    failures: int = 0
    #: When it may be tried again.
    next_try: float = 0.0

    @property
    def open(self) -> bool:
        """Whether it has failed so often that a failure is what is expected."""
        return self.failures >= OPENS_AFTER

    def pause(self, now: float) -> float:
        """Seconds until it may be tried; 0 if it may be now."""
        return max(0.0, self.next_try - now)

    def failed(self, now: float) -> bool:
        """Note a failure; returns whether this one has opened the circuit."""
        longest = min(FIRST_PAUSE * 2.0 ** min(self.failures, 30), LONGEST_PAUSE)
        self.failures += 1
        self.next_try = now + random.uniform(longest / 2, longest)
        return self.failures == OPENS_AFTER

    def wait(self, now: float, seconds: float) -> None:
        """Leave it alone for `seconds`, as it has asked for."""
        self.next_try = now + seconds

    def succeeded(self) -> bool:
        """Note a success; returns whether the circuit was open until now."""
        was_open, self.failures, self.next_try = self.open, 0, 0.0
        return was_open

"""Due times of messages at an even rate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """A number of messages at a rate, counted from the start: no delay adds up.

    Example:
      >>> pace = Pace(rate=1000, messages=30)
      >>> pace.due(0.0), pace.due(0.0105), pace.due(5.0)
      (1, 11, 30)
      >>> pace.late(sent=5, elapsed=0.008)
      0.003
    """

    #: Messages a second; more than 0.
    rate: float
    #: How many there are.
    messages: int

    def due(self, elapsed: float) -> int:
        """Return the number of messages due `elapsed` seconds after the start.

        After a delay that is all that should have been sent meanwhile.
        """
        return min(self.messages, int(elapsed * self.rate) + 1)

    def moment(self, message: int) -> float:
        """Return the seconds from the start at which a message (from 0) is due."""
        return message / self.rate

    def late(self, sent: int, elapsed: float) -> float:
        """Return the delay in seconds of the first unsent message; 0 if none is late."""
        if sent >= self.messages:
            return 0.0
        return max(0.0, round(elapsed - self.moment(sent), 9))

"""When which message is due, at an even rate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """So many messages at so many a second, counted from the start: no delay adds up.

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
        """How many shall have been sent `elapsed` seconds after the start: the first one at once.

        After a delay that is all that should have been sent meanwhile.
        """
        return min(self.messages, int(elapsed * self.rate) + 1)

    def moment(self, message: int) -> float:
        """Seconds from the start at which a message (from 0) is due."""
        return message / self.rate

    def late(self, sent: int, elapsed: float) -> float:
        """Seconds by which the first message that was not sent is late; 0 if none is."""
        if sent >= self.messages:
            return 0.0
        return max(0.0, round(elapsed - self.moment(sent), 9))

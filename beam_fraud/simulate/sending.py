"""Messages sent at a given rate."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from beam_fraud.simulate.messages import Messages

#: How often a slow stream is sent on, in seconds.
_TICK = 0.01


class MessageWriter(Protocol):
    """Where messages go."""

    def write(self, values: Sequence[bytes], keys: Sequence[str]) -> None:
        """Take n messages and their keys."""


class Sender:
    """Hands messages over, `rate` of them a second or as fast as they are taken.

    If the writer makes wait, it is handed more afterwards until the rate is met again.
    """

    def __init__(self, writer: MessageWriter, rate: float | None = None) -> None:
        """Prepare to send.

        Args:
          writer: where the messages go.
          rate: messages a second, above 0; None for no limit.
        """
        self._writer = writer
        self._rate = rate
        #: Messages handed over so far.
        self.sent = 0

    def send(self, blocks: Iterable[Messages]) -> None:
        """Send messages in their order; the time of the first counts from now."""
        began, before = time.monotonic(), self.sent
        for block in blocks:
            start, rows = 0, len(block.values)
            while start < rows:
                end = rows
                if self._rate is not None:
                    due_before = self.sent - before
                    wait = (due_before + 1) / self._rate - (time.monotonic() - began)
                    time.sleep(max(_TICK, wait))
                    due = int((time.monotonic() - began) * self._rate)
                    end = min(rows, start + due - due_before)
                if end > start:
                    self._writer.write(block.values[start:end], block.keys[start:end])
                    self.sent += end - start
                    start = end

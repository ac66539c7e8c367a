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


def send(blocks: Iterable[Messages], writer: MessageWriter, rate: float | None) -> int:
    """Hand messages over, `rate` of them a second or as fast as they are taken.

    If the writer makes wait, it is handed more afterwards until the rate is met again.

    Args:
      blocks: the messages in their order.
      writer: where they go.
      rate: messages a second, above 0; None for no limit.

    Returns:
      How many there were.
    """
    sent, began = 0, time.monotonic()
    for block in blocks:
        start, rows = 0, len(block.values)
        while start < rows:
            end = rows
            if rate is not None:
                next_due = (sent + 1) / rate
                time.sleep(max(_TICK, next_due - (time.monotonic() - began)))
                end = min(rows, start + int((time.monotonic() - began) * rate) - sent)
            if end > start:
                writer.write(block.values[start:end], block.keys[start:end])
                sent += end - start
                start = end
    return sent

"""The moments between two answers, in which work beside them delays none."""

from __future__ import annotations

import threading


class Lull:
    """Tells a thread when nothing is being answered.

    An answer waits while another thread has the interpreter or a processor, and calls come after
    pauses: work that begins as an answer leaves is often done before the next call.

    Example:
      >>> Lull().awaited(0.001)
      False
    """

    def __init__(self) -> None:
        self._begun = threading.Event()
        self._waits = False

    def begin(self) -> None:
        """Note that the last call has its answer; in any thread."""
        # Setting an event costs a lock, on every answer: only if the thread waits.
        if self._waits:
            self._begun.set()

    def awaited(self, seconds: float) -> bool:
        """Wait for the next lull, in one thread alone.

        Args:
          seconds: how long at most: without calls, and under full load, there is none.

        Returns:
          Whether one has begun.
        """
        self._begun.clear()
        self._waits = True
        begun = self._begun.wait(seconds)
        self._waits = False
        return begun

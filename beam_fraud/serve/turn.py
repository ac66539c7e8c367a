"""The turn to work with the engine and its state, which one thread at a time has."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turn:
    """A lock that the event loop takes only where nobody waits for it.

    The event loop never waits, and could take the turn again and again: so other threads claim it.

    Example:
      >>> turn = Turn()
      >>> with turn.claimed():
      ...     turn.taken()
      False
      >>> turn.taken()
      True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: One item for each thread that waits.
        self._claims = list[None]()

    def taken(self) -> bool:
        """Take the turn if it is free and unclaimed; return whether it was."""
        return not self._claims and self._lock.acquire(blocking=False)

    def release(self) -> None:
        """Give back what `taken` took."""
        self._lock.release()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Wait for the turn, before the event loop, and hold it."""
        self._claims.append(None)
        with self._lock:
            self._claims.pop()
            yield

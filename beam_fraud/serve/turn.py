"""The turn to work with the engine and its state, which one thread at a time has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Turn:
    """A lock that the event loop takes only where nobody waits for it.

    The event loop never waits, and could take the turn again and again: so other threads claim it.
    Where it did not get the turn, it is called when a thread gives the turn back.

    Example:
      >>> turn = Turn()
      >>> turn.given_back = lambda: print("given back")
      >>> with turn.claimed():
      ...     turn.taken()
      False
      given back
      >>> turn.taken()
      True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: One item for each thread that waits.
        self._claims = list[None]()
        #: Whether the event loop did not get the turn.
        self._wanted = False
        #: Called in another thread once the turn is free, perhaps in vain.
        self.given_back: Callable[[], None] = lambda: None

    def taken(self) -> bool:
        """Take the turn if it is free and unclaimed; return whether it was."""
        # In this order: a thread that gives it back from here on sees the wish.
        self._wanted = True
        if self._claims or not self._lock.acquire(blocking=False):
            return False
        self._wanted = False
        return True

    def release(self) -> None:
        """Give back what `taken` took."""
        self._lock.release()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Wait for the turn, before the event loop, and hold it."""
        self._claims.append(None)
        try:
            with self._lock:
                self._claims.pop()
                yield
        finally:
            if self._wanted:
                self._wanted = False
                self.given_back()

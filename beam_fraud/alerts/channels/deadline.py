"""A bound on the whole of an exchange, however slowly the other side drips its bytes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Timer


class Deadline:
    """Breaks a connection off when its time is over.

    A time-out of a socket begins anew with every byte; this one does not.
    """

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._lock = Lock()
        self._twin: socket.socket | None = None
        #: Whether the last exchange took too long.
        self.passed = False

    def watch(self, connection: socket.socket) -> None:
        """Watch a new connection instead of the last; TLS may be laid over it later.

        Raises:
          TimeoutError: the time is over already.
        """
        # TLS takes the socket over and leaves an empty one: a second handle stays valid.
        twin = connection.dup()
        with self._lock:
            self._drop()
            self._twin = twin
            if self.passed:
                raise TimeoutError

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Break the connection off if the body takes longer than `seconds`."""
        self.passed = False
        timer = Timer(seconds, self._break_off)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def close(self) -> None:
        """Let go of the connection, which its owner has closed."""
        with self._lock:
            self._drop()

    def _break_off(self) -> None:
        with self._lock:
            self.passed = True
            if self._twin is not None:
                with suppress(OSError):
                    self._twin.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        if self._twin is not None:
            self._twin.close()
            self._twin = None

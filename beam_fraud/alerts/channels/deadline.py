"""A time limit on a whole exchange, also if the server sends byte by byte."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Timer


class Deadline:
    """Close a connection when its time limit passes.

    A socket's time-out restarts with every byte; this deadline does not.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._twin: socket.socket | None = None
        #: Whether the last exchange exceeded the limit.
        self.passed = False

    def watch(self, connection: socket.socket) -> None:
        """Watch `connection` and no earlier one; TLS may wrap it later.

        Raises:
          TimeoutError: the limit has passed already.
        """
        # TLS detaches the socket from this object: keep a second handle.
        twin = connection.dup()
        with self._lock:
            self._drop()
            self._twin = twin
            if self.passed:
                raise TimeoutError

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Close the connection if the body takes longer than `seconds`."""
        self.passed = False
        timer = Timer(seconds, self._shut_down)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def close(self) -> None:
        """Stop watching the connection; its owner has closed it."""
        with self._lock:
            self._drop()

    def _shut_down(self) -> None:
        with self._lock:
            self.passed = True
            if self._twin is not None:
                with suppress(OSError):
                    self._twin.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        if self._twin is not None:
            self._twin.close()
            self._twin = None

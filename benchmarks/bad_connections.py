"""Connections of a server's clients that are silent, slow, huge or broken."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
#: What each sends at first; then it waits, or sends a byte now and then, or is cut off.
_STARTS = (
    b"",
    b"\x16\x03\x01 no HTTP at all \x00\xff\r\n\r\n",
    _HEAD + b"Content-Length: 100\r\n\r\n{",
    _HEAD + b"X-Long: " + b"x" * 15_000,
    _HEAD + b"Content-Length: 999999999999\r\n\r\n" + b"[" * 60_000,
    _HEAD + b"Transfer-Encoding: chunked\r\n\r\nFFFFFF\r\n" + b"[" * 60_000,
    _HEAD + b'Content-Length: 3000000\r\n\r\n["' + b"x" * 100_000,
)
#: Seconds between two bytes of a slow one, and until what the server closed is opened again.
_DRIP, _AGAIN = 0.05, 1.0
#: One in so many is cut off each time.
_CUT_OFF = 1_000


@contextmanager
def bad_connections(port: int, count: int) -> Iterator[None]:
    """Hold so many open inside the `with`; one that the server closes is replaced."""
    numbers = itertools.count()
    held = [_opened(port, next(numbers)) for _ in range(count)]
    ended = threading.Event()

    def drip() -> None:
        again = time.monotonic() + _AGAIN
        while not ended.wait(_DRIP):
            opening = time.monotonic() >= again
            again += _AGAIN if opening else 0.0
            for place, connection in enumerate(held):
                number = next(numbers)
                try:
                    if number % _CUT_OFF == 0:
                        connection.close()
                    connection.send(b" ")
                except BlockingIOError:
                    continue
                except OSError:
                    connection.close()
                    if opening:
                        held[place] = _opened(port, number)

    slow = threading.Thread(target=drip)
    slow.start()
    try:
        yield
    finally:
        ended.set()
        slow.join()
        for connection in held:
            connection.close()


def _opened(port: int, number: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setblocking(False)
    try:
        connection.send(_STARTS[number % len(_STARTS)])
    except OSError:
        # Replaced soon.
        connection.close()
    return connection

"""One listening socket of several processes, each of which takes its share of the connections."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

_LOG = logging.getLogger(__name__)
#: Connections of a process that takes none.
AWAY = 2**31 - 1
#: Seconds that a process with more connections than another leaves a new one to it, and how often.
_TURN, _TURNS = 0.002, 10
#: Seconds without new connections where the system has no more files.
_PAUSE = 1.0


@dataclass(frozen=True)
class Shared:
    """A bound socket, and how many connections each of its processes has."""

    socket: socket.socket = field(repr=False)
    #: Connections by process, in memory that all of them share.
    counts: ctypes.Array[ctypes.c_int32] = field(repr=False)
    #: Index of the process that has this.
    number: int = 0


class SharedListener:
    """Accepts connections of a shared socket, in turn with the other processes.

    A system that divides connections by itself does so at random: of fifty, one of two processes
    often gets thirty, and whoever is connected to it waits half as long again.
    """

    def __init__(
        self,
        shared: Shared,
        protocol: Callable[[], asyncio.Protocol],
        *,
        backlog: int,
        context: ssl.SSLContext | None,
        patience: float | None,
    ) -> None:
        """Begin to accept, on the running loop.

        Args:
          shared: the socket, which is non-blocking.
          protocol: makes the protocol of a connection.
          backlog: connections that wait to be accepted.
          context: of TLS; None without it.
          patience: seconds of a handshake of TLS.
        """
        self._socket, self._number, self._counts = shared.socket, shared.number, shared.counts
        self._protocol, self._context, self._patience = protocol, context, patience
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0
        self._counts[self._number] = 0
        self._socket.setblocking(False)
        self._socket.listen(backlog)
        self._loop.add_reader(self._socket, self._accept)

    def end(self) -> None:
        """Count a connection that has ended."""
        if not self._closed:
            self._counts[self._number] -= 1

    def close(self) -> None:
        """Accept no more."""
        if self._closed:
            return
        self._counts[self._number] = AWAY
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    async def wait_closed(self) -> None:
        """Wait for connections whose handshake has begun."""
        await asyncio.gather(*self._handshakes, return_exceptions=True)

    @property
    def _closed(self) -> bool:
        return self._socket.fileno() < 0

    def _accept(self) -> None:
        while self._left == _TURNS or not self._is_ahead():
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                self._left = 0
                return
            except OSError as error:
                _LOG.error("connections cannot be accepted: %s", error.strerror)
                self._wait(_PAUSE)
                return
            self._left = 0
            self._counts[self._number] += 1
            accepted.setblocking(False)
            task = self._loop.create_task(self._take(accepted))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)
        self._left += 1
        self._wait(_TURN)

    def _is_ahead(self) -> bool:
        own = self._counts[self._number]
        return any(count < own for count in self._counts)

    def _wait(self, seconds: float) -> None:
        self._loop.remove_reader(self._socket)
        self._timer = self._loop.call_later(seconds, self._again)

    def _again(self) -> None:
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        if not waiting.poll(0):
            # Another process has taken it.
            self._left = 0
        self._loop.add_reader(self._socket, self._accept)

    async def _take(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._protocol,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=self._patience,
            )
        except (OSError, asyncio.CancelledError):
            # A handshake failed, or the client has gone.
            self.end()
            with suppress(OSError):
                accepted.close()

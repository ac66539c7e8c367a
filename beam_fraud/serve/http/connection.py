"""A connection: uvicorn's protocol with limits on the head, on times and on readers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from beam_fraud.serve.http.limits import Limits
from beam_fraud.serve.http.problems import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

#: Begin of the head that asks for a body (`Expect: 100-continue`).
_INTERIM = b"HTTP/1.1 100"
#: Bytes of a part of a body from which it waits for the others.
_LARGE_PART = 16_384
#: Requests that a client may send before it reads the first answer.
_MOST_PIPELINED = 32
_MALFORMED = Problem(
    400, "malformed_request", "the request is no HTTP/1.1", "correct the client or proxy"
)
_TOO_LONG = Problem(
    431,
    "head_too_large",
    "the request line and headers are too long",
    "send fewer or shorter headers",
)
_TOO_LARGE = Problem(
    413, "body_too_large", "the body is too long", "send fewer transactions at a time"
)
_TOO_SLOW = Problem(
    408, "timeout", "the request did not arrive in time", "send it at once, on a faster connection"
)


class Connections:
    """The open connections of a server and their limits."""

    def __init__(self, limits: Limits, note: Callable[[Problem, str], None]) -> None:
        """Begin without any.

        Args:
          limits: of each connection, and of their number.
          note: called for each request that was refused before the application had it, with the
            client's address.
        """
        self.limits, self.note = limits, note
        #: Those that have not sent the head of a request yet, oldest first.
        self.newcomers: dict[Connection, None] = {}
        self.open: dict[Connection, None] = {}
        #: Called for each that has closed.
        self.ended: Callable[[], None] = lambda: None

    def admit(self, connection: Connection) -> None:
        """Add a connection; beyond the maximum close the oldest that has sent no request."""
        self.open[connection] = None
        self.newcomers[connection] = None
        if len(self.open) > self.limits.connections:
            next(iter(self.newcomers)).drop()

    def remove(self, connection: Connection) -> None:
        """Forget a closed connection."""
        self.open.pop(connection, None)
        self.newcomers.pop(connection, None)
        self.ended()

    def sweep(self, now: float) -> None:
        """Close connections whose request or reading of answers takes too long.

        One pass over all each half second costs less than a timer for each request.

        Args:
          now: time of the event loop.
        """
        for connection in list(self.open):
            connection.check(now)


class _Answer:
    """Where uvicorn writes an answer: the head waits for the body, so that both are one write.

    uvloop sends every write at once: by itself, the head would cost a call of the system more, and
    wake the client up twice.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        #: The head; b"" once it is written, None before it comes.
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        """Write the head, then the parts of the body."""
        if self._head is None:
            if data.startswith(_INTERIM):
                self._transport.write(data)
            else:
                self._head = data
        elif self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        else:
            self._transport.write(data)

    def end(self) -> None:
        """Write the head of an answer without a body."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        """Close the connection after what was written."""
        self.end()
        self._transport.close()

    def is_closing(self) -> bool:
        """Return whether the connection closes."""
        return self._transport.is_closing()


class Connection(HttpToolsProtocol):
    """A connection of HTTP/1.1."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        connections: Connections,
    ) -> None:
        """Prepare a connection.

        Args:
          config, server_state, app_state: of uvicorn.
          connections: all of the server, and their limits.
        """
        super().__init__(config, server_state, app_state)
        self._all, self._limits = connections, connections.limits
        #: Time until which a phase must end: waiting for a request, for its head, or for a body.
        self._deadline = math.inf
        #: Whether it waits for a request after another one.
        self._idle = False
        #: Bytes since the begin of a request, and how many it may have at present.
        self._received = 0
        self._most = self._limits.head_bytes
        #: Whether a request has begun whose end has not come, and whether its head has come.
        self._receiving = self._in_body = False
        #: Large parts of a body of a known length, until all are there.
        self._parts = list[bytes]()
        self._refusal = _MALFORMED
        #: Time since which bytes wait for the client to read them.
        self._unread_since = math.inf
        #: The answer that is being made: one at a time.
        self._answer: _Answer | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.time() + self._limits.head_seconds
        self._all.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.remove(self)
        self._deadline = math.inf
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._idle or self._deadline == math.inf:
            self._idle = False
            # The first bytes after an answer; they may be line ends, which begin no request.
            self._deadline = self.loop.time() + self._limits.head_seconds
        self._received += len(data)
        super().data_received(data)
        if self._received > self._most and self._receiving and not self.transport.is_closing():
            self._refuse(_TOO_LARGE if self._in_body else _TOO_LONG)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._receiving = True
        self._parts = []
        self._most = self._limits.head_bytes

    def on_headers_complete(self) -> None:
        if self._received > self._most and self._head_bytes() > self._most:
            self._refusal = _TOO_LONG
            raise ValueError("head")
        if len(self.pipeline) >= _MOST_PIPELINED:
            raise ValueError("pipeline")
        self._all.newcomers.pop(self, None)
        super().on_headers_complete()
        self._in_body = True
        self._deadline = self.loop.time() + self._limits.body_seconds
        # Chunks and trailers add to the body.
        self._most = self._limits.head_bytes + 2 * self._limits.body_bytes

    def on_body(self, body: bytes) -> None:
        if not (self._parts or len(body) >= _LARGE_PART) or not self._has_length():
            super().on_body(body)
        elif not self.cycle.response_complete:
            # Each part would wake up the application, and be copied several times.
            self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            # Uvicorn makes no copy of bytes.
            self.cycle.body = cast(bytearray, b"".join([self.cycle.body, *parts]))
        self._receiving = self._in_body = False
        self._received = 0
        self._deadline = math.inf
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answer = _Answer(self.transport)
        cycle.transport = cast(asyncio.Transport, self._answer)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Wait for the next request, or begin it, as uvicorn does, but without a timer of its own.

        Timers of the event loop cost a request more than its parsing; `check` looks at all.
        """
        self.server_state.total_requests += 1
        if self._answer is not None:
            self._answer.end()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._deadline == math.inf:
            self._deadline, self._idle = self.loop.time() + self._limits.idle_seconds, True

    def check(self, now: float) -> None:
        """Close the connection if the client is too slow.

        Args:
          now: time of the event loop.
        """
        if self.transport.get_write_buffer_size() == 0:
            self._unread_since = math.inf
        elif self._unread_since == math.inf:
            self._unread_since = now
        elif now - self._unread_since > self._limits.write_seconds:
            self.drop()
            return
        if now < self._deadline or self.transport.is_closing():
            return
        if self._received == 0:
            # Nothing was asked.
            self.transport.close()
        elif not self._answering:
            self._refuse(_TOO_SLOW)

    def drop(self) -> None:
        """Close the connection at once, with what is unsent."""
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal)

    def _refuse(self, problem: Problem) -> None:
        """Answer with a problem, and close."""
        body = problem.body("-")
        head = (
            b"content-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n"
            b"cache-control: no-store\r\n\r\n" % (MEDIA_TYPE.encode(), len(body))
        )
        # A body belongs to the last cycle, which may have answered already; a head to none yet.
        if not self.cycle.response_started if self._in_body else not self._answering:
            self.transport.write(STATUS_LINE[problem.status] + head + body)
        if self.cycle is not None and not self.cycle.response_complete:
            # The application waits for the body, and ends by this.
            self.cycle.scope["refused"] = problem  # type: ignore[typeddict-unknown-key]
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        else:
            self._all.note(problem, self.client[0] if self.client else "-")
        self.transport.close()

    @property
    def _answering(self) -> bool:
        """Return whether a complete request waits for its answer."""
        waiting = self.cycle is not None and not self.cycle.response_complete
        return bool(self.pipeline) or (waiting and not self.cycle.more_body)

    def _has_length(self) -> bool:
        return any(name == b"content-length" for name, _ in self.headers)

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

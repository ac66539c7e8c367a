"""A service: one ASGI application, one process, one event loop, one port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import uvicorn
import uvloop

from beam_fraud.serve.http.connection import Connection, Connections
from beam_fraud.serve.http.limits import Limits
from beam_fraud.serve.http.listen import Certificates, Listen, bound, within_open_files
from beam_fraud.serve.http.problems import Problem
from beam_fraud.serve.http.sharing import SharedListener

#: Connections that wait to be accepted.
_BACKLOG = 2_048
#: Ticks of uvicorn, of 0.1 s each, between two sweeps over connections and between two looks at
#: files that may have changed.
_SWEEP, _RELOAD = 5, 10


class Service:
    """Answers requests on a port until it is stopped."""

    def __init__(self, listen: Listen, limits: Limits) -> None:
        """Read the certificates and bind the port.

        Args:
          listen: address and certificates.
          limits: of requests and connections.

        Raises:
          FraudError: a file cannot be read, or the port cannot be listened on.
        """
        #: Limits, with the connections that open files allow.
        self.limits = within_open_files(limits)
        self._ssl = Certificates(listen) if listen.tls_cert is not None else None
        self._socket, self._shared = bound(listen), listen.shared
        scheme = "https" if self._ssl else "http"
        host = f"[{listen.host}]" if ":" in listen.host else listen.host
        #: Port that is listened on.
        self.port: int = self._socket.getsockname()[1]
        #: URL of the server.
        self.url = f"{scheme}://{host}:{self.port}"
        self._connections: Connections | None = None
        self._reload: Callable[[], None] = lambda: None
        self._server: _Uvicorn | None = None
        self._stopped = False

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return 0 if self._connections is None else len(self._connections.open)

    @property
    def waiting(self) -> int:
        """Number of requests that have arrived and have no answer."""
        return 0 if self._server is None else len(self._server.server_state.tasks)

    def run(
        self,
        app: Callable[..., Awaitable[Any]],
        *,
        note: Callable[[Problem, str], None],
        reload: Callable[[], None],
        ended: Callable[[], None],
        on_started: Callable[[], None],
    ) -> None:
        """Answer requests until `stop`, then finish those in flight.

        Args:
          app: the ASGI application.
          note: called for each request that was refused before the application had it, with the
            client's address.
          reload: called each second.
          ended: called in a thread when no request is in flight any more; the loop still runs.
          on_started: called when the port answers.
        """
        self._connections, self._reload = Connections(self.limits, note), reload
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(app, ended, on_started))

    def stop(self) -> None:
        """End `run`; for other threads and handlers of signals."""
        self._stopped = True
        if self._server is not None:
            self._server.should_exit = True

    async def _serve(
        self,
        app: Callable[..., Awaitable[Any]],
        ended: Callable[[], None],
        on_started: Callable[[], None],
    ) -> None:
        # Its own lines are about single requests; ours are one for each, in the access log.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # A client could name any address.
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=self.limits.idle_seconds,  # type: ignore[arg-type]
            timeout_graceful_shutdown=self.limits.drain_seconds,  # type: ignore[arg-type]
        )
        self._server = server = _Uvicorn(config, self, on_started)
        server.should_exit = self._stopped
        try:
            await server.serve()
        finally:
            # In a thread: what ends may wait for this loop.
            await asyncio.to_thread(ended)

    async def listen(self, server: _Uvicorn) -> asyncio.Server | SharedListener:
        """Accept connections."""
        connections = self._connections
        assert connections is not None
        loop = asyncio.get_running_loop()
        context = None if self._ssl is None else self._ssl.context
        patience = None if self._ssl is None else self.limits.head_seconds

        def protocol() -> Connection:
            return Connection(server.config, server.server_state, {}, connections)

        if self._shared is not None:
            listener = SharedListener(
                self._shared, protocol, backlog=_BACKLOG, context=context, patience=patience
            )
            connections.ended = listener.end
            return listener
        return await loop.create_server(
            protocol,
            sock=self._socket,
            ssl=context,
            backlog=_BACKLOG,
            ssl_handshake_timeout=patience,
        )

    def tick(self, number: int) -> None:
        """Do what is due beside requests."""
        if number % _SWEEP == 0 and self._connections is not None:
            self._connections.sweep(asyncio.get_running_loop().time())
        if number % _RELOAD == 0:
            self._reload()
            if self._ssl is not None:
                self._ssl.reload()


class _Uvicorn(uvicorn.Server):
    """Uvicorn's server on a socket of ours, without signal handlers of its own."""

    def __init__(
        self, config: uvicorn.Config, ours: Service, on_started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._ours, self._on_started = ours, on_started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The command handles signals: the first drains, the second interrupts.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Of a server it asks no more than to close.
        self.servers = [cast(asyncio.Server, await self._ours.listen(self))]
        self.started = True
        self._on_started()

    async def on_tick(self, counter: int) -> bool:
        self._ours.tick(counter)
        return await super().on_tick(counter)

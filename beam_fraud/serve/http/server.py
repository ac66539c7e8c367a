"""The server: one process, one event loop, one port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import uvicorn
import uvloop

from beam_fraud.errors import Code, UsageError
from beam_fraud.serve.http.access_log import AccessLog, AccessLogSettings
from beam_fraud.serve.http.app import App, Description, Documents
from beam_fraud.serve.http.bodies import Columns
from beam_fraud.serve.http.connection import Connection, Connections
from beam_fraud.serve.http.limits import Limits
from beam_fraud.serve.http.listen import Certificates, Listen, bound, within_open_files
from beam_fraud.serve.http.openapi import Api, document
from beam_fraud.serve.http.page import page
from beam_fraud.serve.http.tokens import (
    FILE_VARIABLE,
    TOKENS_VARIABLE,
    Tokens,
    TokenSource,
)
from beam_fraud.serve.metrics import Metrics
from beam_fraud.serve.predictions import Predictions

_LOG = logging.getLogger(__name__)
#: Connections that wait to be accepted.
_BACKLOG = 2_048
#: Ticks of uvicorn, of 0.1 s each, between two sweeps over connections and between two looks at
#: the files of tokens and certificates.
_SWEEP, _RELOAD = 5, 10


class HttpServer:
    """Serves predictions until it is stopped."""

    def __init__(
        self,
        predictions: Predictions,
        api: Api,
        listen: Listen,
        *,
        limits: Limits,
        tokens: TokenSource,
        metrics: Metrics,
        log: AccessLogSettings,
    ) -> None:
        """Check the settings and bind the port.

        Args:
          predictions: answers transactions; drained and closed at the end of `run`.
          api: what the OpenAPI document describes.
          listen: address and certificates.
          limits: of requests and connections.
          tokens: where tokens come from; needed beyond loopback.
          metrics: figures, shared with what answers.
          log: the access log.

        Raises:
          UsageError: there are no tokens and the address is reached by other machines.
          FraudError: a file cannot be read or written, or the port cannot be listened on.
        """
        if not tokens.given and not listen.on_loopback:
            raise UsageError(
                f"--host {listen.host}: other machines reach it, so clients need tokens; set "
                f"{FILE_VARIABLE} or {TOKENS_VARIABLE}, or listen on 127.0.0.1",
                Code.TOKENS_MISSING,
            )
        self._predictions = predictions
        self._limits = limits = within_open_files(limits)
        self._tokens = Tokens(tokens) if tokens.given else None
        self._ssl = Certificates(listen) if listen.tls_cert is not None else None
        self._socket = bound(listen)
        scheme = "https" if self._ssl else "http"
        host = f"[{listen.host}]" if ":" in listen.host else listen.host
        #: Port that is listened on.
        self.port: int = self._socket.getsockname()[1]
        #: URL of the server.
        self.url = f"{scheme}://{host}:{self.port}"
        self._log = AccessLog(log, lambda: _lost(metrics))
        self._columns = Columns(api.schema, api.labels, api.schema)
        described = self.described(api)
        self._app = App(predictions, described, limits, self._tokens, metrics, self._log)
        self._connections = Connections(limits, self._app.note_refusal)
        metrics.connections = lambda: len(self._connections.open)
        self._server: _Uvicorn | None = None
        self._stopped = False

    def run(self, on_started: Callable[[], None] = lambda: None) -> None:
        """Answer requests until `stop`, then finish those in flight and drain the predictions.

        Args:
          on_started: called when the port answers.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(on_started))

    def described(self, api: Api) -> Description:
        """Return what is shown, and what is read, of an API."""
        whole = document(api, self._limits, secured=self._tokens is not None)
        documents = Documents(msgspec.json.encode(whole), page(whole, self.url).encode())
        return Description(documents, replace(self._columns, schema=api.schema))

    def describe(self, description: Description) -> None:
        """Show and read this from the next request on, in any thread."""
        self._app.describe(description)

    def stop(self) -> None:
        """End `run`; for other threads and handlers of signals."""
        self._stopped = True
        if self._server is not None:
            self._server.should_exit = True

    async def _serve(self, on_started: Callable[[], None]) -> None:
        # Its own lines are about single requests; ours are one for each, in the access log.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        config = uvicorn.Config(
            self._app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # A client could name any address.
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=self._limits.idle_seconds,  # type: ignore[arg-type]
            timeout_graceful_shutdown=self._limits.drain_seconds,  # type: ignore[arg-type]
        )
        self._server = server = _Uvicorn(config, self, on_started)
        server.should_exit = self._stopped
        try:
            await server.serve()
        finally:
            # In a thread: answers of the engine come back through this loop.
            await asyncio.to_thread(self._end)

    def _end(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._log.close)
            stack.callback(self._predictions.close)
            self._predictions.drain()

    async def listen(self, server: _Uvicorn) -> asyncio.Server:
        """Accept connections."""
        loop = asyncio.get_running_loop()
        patience = None if self._ssl is None else self._limits.head_seconds
        return await loop.create_server(
            lambda: Connection(server.config, server.server_state, {}, self._connections),
            sock=self._socket,
            ssl=None if self._ssl is None else self._ssl.context,
            backlog=_BACKLOG,
            ssl_handshake_timeout=patience,
        )

    def tick(self, number: int) -> None:
        """Do what is due beside requests."""
        if number % _SWEEP == 0:
            self._connections.sweep(asyncio.get_running_loop().time())
        if number % _RELOAD == 0:
            if self._tokens is not None:
                self._tokens.reload()
            if self._ssl is not None:
                self._ssl.reload()


class _Uvicorn(uvicorn.Server):
    """Uvicorn's server on a socket of ours, without signal handlers of its own."""

    def __init__(
        self, config: uvicorn.Config, ours: HttpServer, on_started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._ours, self._on_started = ours, on_started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The command handles signals: the first drains, the second interrupts.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.servers = [await self._ours.listen(self)]
        self.started = True
        self._on_started()

    async def on_tick(self, counter: int) -> bool:
        self._ours.tick(counter)
        return await super().on_tick(counter)


def _lost(metrics: Metrics) -> None:
    metrics.unlogged += 1

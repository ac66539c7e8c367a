"""The server of predictions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from beam_fraud.errors import Code, UsageError
from beam_fraud.serve.http.access_log import AccessLog, AccessLogSettings
from beam_fraud.serve.http.app import App, Description, Documents
from beam_fraud.serve.http.bodies import Columns
from beam_fraud.serve.http.limits import Limits
from beam_fraud.serve.http.listen import Listen
from beam_fraud.serve.http.openapi import Api, document
from beam_fraud.serve.http.page import page
from beam_fraud.serve.http.service import Service
from beam_fraud.serve.http.tokens import (
    FILE_VARIABLE,
    TOKENS_VARIABLE,
    Tokens,
    TokenSource,
)
from beam_fraud.serve.metrics import Metrics
from beam_fraud.serve.predictions import Predictions


@dataclass(frozen=True)
class Describer:
    """Describes APIs of a server, here or in another process."""

    limits: Limits
    #: Whether clients need tokens.
    secured: bool
    url: str
    #: What is read of Arrow bodies by the first model.
    columns: Columns

    def describe(self, api: Api) -> Description:
        """Return what is shown, and what is read, of an API."""
        whole = document(api, self.limits, secured=self.secured)
        documents = Documents(msgspec.json.encode(whole), page(whole, self.url).encode())
        return Description(documents, replace(self.columns, schema=api.schema))


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
        self._tokens = Tokens(tokens) if tokens.given else None
        self._service = Service(listen, limits)
        #: Port that is listened on, and URL of the server.
        self.port, self.url = self._service.port, self._service.url
        self._log = AccessLog(log, lambda: _lost(metrics))
        columns = Columns(api.schema, api.labels, api.schema)
        #: Describes what `describe` shows.
        self.describer = Describer(
            self._service.limits, self._tokens is not None, self.url, columns
        )
        self._app = App(
            predictions,
            self.describer.describe(api),
            self._service.limits,
            self._tokens,
            metrics,
            self._log,
            lambda: self._service.waiting,
        )
        metrics.connections = lambda: self._service.connections

    def run(self, on_started: Callable[[], None] = lambda: None) -> None:
        """Answer requests until `stop`, then finish those in flight and drain the predictions.

        Args:
          on_started: called when the port answers.
        """
        self._service.run(
            self._app,
            note=self._app.note_refusal,
            reload=(lambda: None) if self._tokens is None else self._tokens.reload,
            # Answers of the engine come back through the loop.
            ended=self._end,
            on_started=on_started,
        )

    def describe(self, description: Description) -> None:
        """Show and read this from the next request on, in any thread."""
        self._app.describe(description)

    def stop(self) -> None:
        """End `run`; for other threads and handlers of signals."""
        self._service.stop()

    def _end(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._log.close)
            stack.callback(self._predictions.close)
            self._predictions.drain()


def _lost(metrics: Metrics) -> None:
    metrics.unlogged += 1

"""The ASGI application: routes, tokens, bodies and answers.

The application is plain ASGI: nine fixed routes need no router, and a framework costs more than
the routes themselves (docs/serve.md, "The server").
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import itertools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from beam_fraud.errors import FraudError
from beam_fraud.serve.http.access_log import AccessLog, Entry
from beam_fraud.serve.http.bodies import ARROW, JSON, Columns, arrow_call, json_call
from beam_fraud.serve.http.limits import Limits
from beam_fraud.serve.http.live_page import live_page, live_policy
from beam_fraud.serve.http.problems import (
    MEDIA_TYPE,
    Problem,
    Refused,
    internal_error,
    invalid_transaction,
    unavailable,
)
from beam_fraud.serve.http.tokens import Tokens
from beam_fraud.serve.metrics import Metrics, count
from beam_fraud.serve.predictions import Call, Overloaded, Predictions, Unready
from beam_fraud.wording import place_of

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_LOG = logging.getLogger(__name__)
#: Answers with a query of these members, each true or false.
_FLAGS = ("record", "features")
_BOOLEANS = {"true": True, "false": False}
#: Status, for figures and the log, of a request whose client did not wait for its end.
_GONE = 499
#: Characters of a request id that are kept, and how many.
_NOT_IN_ID = re.compile(rb"[^A-Za-z0-9._-]+")
_LONGEST_ID = 64
#: Pages for a browser, which sends a token by basic authentication alone.
_PAGES = frozenset(("/docs", "/live", "/openapi.json"))
#: Hosts of this machine, for a server without tokens: other names are those of web pages whose
#: name was made to lead here.
_LOOPBACK = re.compile(rb"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.ASCII | re.IGNORECASE)
_FRAMED = ((b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY"))
_POLICY = b"content-security-policy"
_PAGE_HEADERS = ((_POLICY, b"default-src 'none'; style-src 'unsafe-inline'"), *_FRAMED)


@dataclass(frozen=True)
class Documents:
    """The server's statements about itself."""

    #: The OpenAPI document as JSON.
    openapi: bytes
    #: The same as a page of HTML.
    docs: bytes


@dataclass(frozen=True)
class Description:
    """The documents and readers of an API, built once for each model."""

    documents: Documents
    #: What is read of Arrow bodies.
    columns: Columns


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    media: bytes
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    rows: int = 0


@dataclass(slots=True)
class _Request:
    """Facts of a request so far; the access log has them in any case."""

    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    id: str
    token: str | None = None
    received: int = 0
    flags: str = ""


#: Type: answers a request whose token was accepted.
_Handler: TypeAlias = Callable[[_Request, Receive], Awaitable[_Answer]]


class App:
    """The HTTP API of `serve` over any `Predictions`."""

    def __init__(
        self,
        predictions: Predictions,
        description: Description,
        limits: Limits,
        tokens: Tokens | None,
        metrics: Metrics,
        log: AccessLog,
        waiting: Callable[[], int] = lambda: 2,
    ) -> None:
        """Assemble the application.

        Args:
          predictions: answers the transactions.
          description: the pages about the API, and what is read of Arrow bodies.
          limits: of the requests.
          tokens: who may send requests; None for anyone on this machine.
          metrics: figures, which `/metrics` shows.
          log: log of the requests.
          waiting: returns the number of requests that have arrived and have no answer.
        """
        self._waiting = waiting
        self._predictions, self._description = predictions, description
        self._limits, self._tokens = limits, tokens
        self._metrics, self._log = metrics, log
        self._running = 0
        metrics.in_flight = lambda: self._running
        self._ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(4)
        self._routes: dict[str, tuple[str, _Handler]] = {
            "/predict": ("POST", self._predict),
            "/healthz": ("GET", self._healthz),
            "/readyz": ("GET", self._readyz),
            "/metrics": ("GET", self._figures),
            "/model": ("GET", self._model),
            "/openapi.json": ("GET", self._openapi),
            "/docs": ("GET", self._docs),
            "/live": ("GET", self._live),
        }

    def describe(self, description: Description) -> None:
        """Show and read this from the next request on, in any thread."""
        self._description = description

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of ASGI."""
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        request = _Request(
            scope["method"],
            scope["path"],
            scope["query_string"],
            headers,
            self._request_id(headers),
        )
        problem = None
        try:
            answer = await self._answer(request, receive)
        except Refused as refused:
            problem = refused.problem
        except _Gone:
            # The connection has answered, or the client has closed it.
            refused_by: Problem | None = scope.get("refused")
            gone = _Answer(_GONE if refused_by is None else refused_by.status, b"", b"")
            self._note(request, scope, time.perf_counter() - began, gone, refused_by)
            return
        except asyncio.CancelledError:
            # The server stops and has no more time for this request.
            problem = unavailable("stopping", "the server stops")
        except FraudError as error:
            _LOG.error("request %s: %s [%s]", request.id, error, error.code)
            problem = unavailable(error.code, "the server cannot answer now; its log says why")
        except Exception as error:
            # The text of an exception may hold values of a transaction.
            _LOG.error("request %s: %s", request.id, place_of(error))
            problem = internal_error()
        if problem is not None:
            answer = _Answer(
                problem.status, MEDIA_TYPE.encode(), problem.body(request.id), problem.headers
            )
        await _send(answer, request, send, close=problem is not None and problem.close)
        took = time.perf_counter() - began
        # The loop writes what was sent when all callbacks of this turn have run.
        asyncio.get_running_loop().call_soon(self._note, request, scope, took, answer, problem)

    async def _answer(self, request: _Request, receive: Receive) -> _Answer:
        route = self._routes.get(request.path)
        if request.path != "/healthz":
            self._authenticate(request)
        if route is None:
            known = ", ".join(self._routes)
            raise _refusal(404, "no_route", "there is no such route", f"routes are {known}")
        method, handler = route
        if request.method != method and not (method == "GET" and request.method == "HEAD"):
            allowed = "GET, HEAD" if method == "GET" else method
            raise _refusal(
                405,
                "method",
                f"{request.path} has no method {request.method}",
                f"use {allowed}",
                headers=((b"allow", allowed.encode()),),
            )
        return await handler(request, receive)

    def _authenticate(self, request: _Request) -> None:
        """Accept a token for a route; without tokens, a request to this machine."""
        if self._tokens is None:
            host = request.headers.get(b"host", b"localhost")
            if not _LOOPBACK.fullmatch(host):
                raise _refusal(
                    403,
                    "host",
                    "a server without tokens answers requests to this machine alone",
                    "send them to 127.0.0.1 or localhost, or set tokens",
                    "Host",
                )
            return
        presented = _credential(request)
        if presented is None:
            raise _unauthorised(request.path, "the request has no token")
        token = self._tokens.of(presented)
        if token is None:
            raise _unauthorised(request.path, "the token is unknown", b', error="invalid_token"')
        request.token = token.name
        if token.expires is not None and token.expires <= time.time():
            raise _unauthorised(request.path, "the token has expired", b', error="invalid_token"')
        if token.routes is not None and request.path not in token.routes:
            raise _refusal(
                403,
                "route_forbidden",
                "the token does not open this route",
                "use another token, or add the route to its routes",
                "Authorization",
            )

    async def _predict(self, request: _Request, receive: Receive) -> _Answer:
        limits, headers = self._limits, request.headers
        if self._running >= limits.concurrency:
            count(self._metrics.shed, "concurrency")
            raise Refused(unavailable("overloaded", "too many predictions at a time"))
        record, features = _flags(request)
        media = _media_of_body(headers)
        wanted = _media_of_answer(headers, media)
        self._running += 1
        try:
            body = await self._body(request, receive)
            if media == JSON:
                alone = self._waiting() == 1
                call, array = json_call(
                    body, limits.rows, record=record, features=features, alone=alone
                )
            else:
                array = True
                call = arrow_call(
                    body, limits.rows, self._description.columns, record=record, features=features
                )
            return await self._answers(call, wanted, array=array)
        finally:
            self._running -= 1

    async def _answers(self, call: Call, wanted: bytes, *, array: bool) -> _Answer:
        rows = len(call.records) if call.table is None else call.table.num_rows
        try:
            answers = await self._predictions.predict(call)
        except Overloaded as overloaded:
            raise Refused(
                unavailable("overloaded", "too many transactions wait", overloaded.retry_after)
            ) from None
        except Unready as unready:
            raise Refused(unavailable("not_ready", unready.reason)) from None
        if answers.errors and not array:
            raise Refused(invalid_transaction(answers.problem()))
        if wanted == ARROW:
            return _Answer(200, ARROW, answers.ipc(), rows=rows)
        return _Answer(200, JSON, answers.json(array=array), rows=rows)

    async def _body(self, request: _Request, receive: Receive) -> bytes:
        """Read the body.

        Raises:
          Refused: it is too long, or has no length.
          _Gone: the client has closed the connection.
        """
        most = self._limits.body_bytes
        length = request.headers.get(b"content-length")
        if length is None and b"transfer-encoding" not in request.headers:
            raise _refusal(
                411,
                "no_length",
                "the request has no body, or none of a known length",
                "send Content-Length",
                "Content-Length",
            )
        # The server refuses lengths that are no numbers.
        if length is not None and int(length) > most:
            raise self._too_large()
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            parts = [body]
            received = len(body)
            while message.get("more_body"):
                message = await receive()
                parts.append(message.get("body", b""))
                received += len(parts[-1])
                if received > most:
                    raise self._too_large()
            body = b"".join(parts)
        if message["type"] == "http.disconnect":
            raise _Gone
        request.received = len(body)
        if len(body) > most:
            raise self._too_large()
        return body

    def _too_large(self) -> Refused:
        most = self._limits.body_bytes
        return _refusal(
            413,
            "body_too_large",
            f"the body has more than {most:,} bytes",
            "send fewer transactions at a time",
            close=True,
        )

    async def _healthz(self, request: _Request, receive: Receive) -> _Answer:
        if self._predictions.readiness().alive:
            return _Answer(200, JSON, b'{"status":"ok"}')
        raise Refused(unavailable("ended", "the engine has ended; start the process again"))

    async def _readyz(self, request: _Request, receive: Receive) -> _Answer:
        readiness = self._predictions.readiness()
        body = msgspec.json.encode(
            {
                "ready": readiness.ready,
                "reasons": readiness.reasons,
                "model_id": readiness.model_id,
            }
        )
        if readiness.ready:
            return _Answer(200, JSON, body)
        return _Answer(503, JSON, body, ((b"retry-after", b"1"),))

    async def _figures(self, request: _Request, receive: Receive) -> _Answer:
        return _Answer(200, b"text/plain; version=0.0.4; charset=utf-8", self._metrics.text())

    async def _model(self, request: _Request, receive: Receive) -> _Answer:
        return _Answer(200, JSON, msgspec.json.encode(self._predictions.about()))

    async def _openapi(self, request: _Request, receive: Receive) -> _Answer:
        return _Answer(200, JSON, self._description.documents.openapi)

    async def _docs(self, request: _Request, receive: Receive) -> _Answer:
        return _Answer(
            200, b"text/html; charset=utf-8", self._description.documents.docs, _PAGE_HEADERS
        )

    async def _live(self, request: _Request, receive: Receive) -> _Answer:
        figures, now = self._metrics.live(), datetime.now(UTC)
        # In a thread: an answer need not wait for a page.
        page = await asyncio.to_thread(live_page, figures, now)
        headers = ((_POLICY, live_policy().encode()), *_FRAMED)
        return _Answer(200, b"text/html; charset=utf-8", page.encode(), headers)

    def _request_id(self, headers: Mapping[bytes, bytes]) -> str:
        given = headers.get(b"x-request-id")
        if given is not None:
            cleaned = _NOT_IN_ID.sub(b"", given)[:_LONGEST_ID]
            if cleaned:
                return cleaned.decode("ascii")
        return f"{self._id_prefix}-{next(self._ids):x}"

    def note_refusal(self, problem: Problem, client: str) -> None:
        """Count and log a request that its connection refused before it was complete.

        Args:
          problem: the answer.
          client: address of the client.
        """
        request = _Request("-", "-", b"", {}, "-")
        answer = _Answer(problem.status, b"", b"")
        self._note(request, {"client": (client, 0)}, 0.0, answer, problem)

    def _note(
        self,
        request: _Request,
        scope: Scope,
        seconds: float,
        answer: _Answer,
        problem: Problem | None,
    ) -> None:
        """Count and log a request, after its answer was sent."""
        metrics = self._metrics
        route = request.path if request.path in self._routes else "other"
        key = (route, answer.status)
        metrics.requests[key] = metrics.requests.get(key, 0) + 1
        if route == "/predict":
            metrics.stages["http"].add(seconds)
        if problem is not None:
            count(metrics.errors, problem.code)
        if not self._log.on:
            return
        client = scope.get("client")
        self._log.add(
            Entry(
                timestamp=self._log.timestamp(),
                level="error" if answer.status == 500 else "info",
                logger="beam_fraud.access",
                method=request.method,
                route=route,
                flags=request.flags,
                status=answer.status,
                ms=round(seconds * 1000, 3),
                bytes_in=request.received,
                bytes_out=len(answer.body),
                rows=answer.rows,
                token=request.token,
                client=client[0] if client else "-",
                request_id=request.id,
                code=None if problem is None else problem.code,
            )
        )


class _Gone(Exception):  # noqa: N818  # the end of a request
    """The client closed the connection before its request was complete."""


async def _send(answer: _Answer, request: _Request, send: Send, *, close: bool) -> None:
    headers = [
        (b"content-type", answer.media),
        (b"content-length", b"%d" % len(answer.body)),
        (b"x-request-id", request.id.encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *answer.headers,
    ]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    body = b"" if request.method == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body})


def _refusal(
    status: int,
    code: str,
    detail: str,
    fix: str,
    field: str | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    *,
    close: bool = False,
) -> Refused:
    return Refused(Problem(status, code, detail, fix, field, headers, close))


def _credential(request: _Request) -> bytes | None:
    """Return the token of a request; the password of basic authentication for pages."""
    given = request.headers.get(b"authorization")
    if given is None:
        return None
    scheme, _, value = given.partition(b" ")
    scheme = scheme.lower()
    if scheme == b"bearer":
        return value.strip()
    if scheme == b"basic" and request.path in _PAGES and request.method in ("GET", "HEAD"):
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return None
    return None


def _unauthorised(path: str, detail: str, error: bytes = b"") -> Refused:
    challenges = [(b"www-authenticate", b'Bearer realm="beam-fraud"' + error)]
    if path in _PAGES:
        challenges.append((b"www-authenticate", b'Basic realm="beam-fraud: the token as password"'))
    return _refusal(
        401,
        "unauthorised",
        detail,
        "send Authorization: Bearer TOKEN with a valid token",
        "Authorization",
        tuple(challenges),
    )


def _flags(request: _Request) -> tuple[bool, bool]:
    """Return whether to record and to add features; note the flags for the log."""
    if not request.query:
        return True, False
    values = {"record": True, "features": False}
    for pair in request.query.decode("latin-1").split("&"):
        name, _, text = pair.partition("=")
        if name not in _FLAGS:
            raise _refusal(
                400,
                "unknown_parameter",
                "the query has an unknown parameter",
                f"parameters are {', '.join(_FLAGS)}",
                "query",
            )
        if text not in _BOOLEANS:
            raise _refusal(
                400, "parameter_value", f"{name} is neither true nor false", "write one", name
            )
        values[name] = _BOOLEANS[text]
    request.flags = "&".join(f"{name}={str(value).lower()}" for name, value in values.items())
    return values["record"], values["features"]


def _media_of_body(headers: Mapping[bytes, bytes]) -> bytes:
    coding = headers.get(b"content-encoding", b"identity")
    if coding.strip().lower() != b"identity":
        raise _refusal(
            415,
            "content_coding",
            "the body is compressed",
            "send it as it is",
            "Content-Encoding",
            ((b"accept-encoding", b"identity"),),
        )
    given = headers.get(b"content-type", b"")
    if given == JSON:
        return JSON
    media, _, parameters = given.partition(b";")
    media = media.strip().lower()
    charset = parameters.replace(b" ", b"").replace(b'"', b"").lower()
    if media == JSON and charset in (b"", b"charset=utf-8"):
        return JSON
    if media == ARROW:
        return ARROW
    raise _refusal(
        415,
        "media_type",
        "the body is of another media type",
        f"send {JSON.decode()} in UTF-8, or {ARROW.decode()}",
        "Content-Type",
    )


def _media_of_answer(headers: Mapping[bytes, bytes], body: bytes) -> bytes:
    accept = headers.get(b"accept")
    if accept is None or accept == b"*/*":
        return body
    ranges = {}
    for part in accept.lower().split(b","):
        media, _, parameters = part.partition(b";")
        ranges[media.strip()] = b"q=0" not in parameters.replace(b" ", b"").replace(b"q=0.", b"")
    for media in (body, JSON, ARROW):
        for pattern in (media, b"application/*", b"*/*"):
            if pattern in ranges:
                if ranges[pattern]:
                    return media
                break
    raise _refusal(
        406,
        "not_acceptable",
        "the answer exists in no media type that Accept names",
        f"accept {JSON.decode()} or {ARROW.decode()}",
        "Accept",
    )

"""The ASGI application of the pages: who may do what, and what every answer carries."""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Match, Route, Router
from starlette.types import Receive, Scope, Send

from beam_fraud.errors import Code, FraudError
from beam_fraud.review.errors import ConflictError, MissingError
from beam_fraud.review.http.cookies import LOGIN_COOKIE, OPENID_COOKIE, SESSION_COOKIE, set_cookie
from beam_fraud.review.http.form import Form
from beam_fraud.review.http.routes import ROUTES, Page
from beam_fraud.review.http.site import Site
from beam_fraud.review.http.templating import render
from beam_fraud.review.http.turns import Turns
from beam_fraud.review.http.visit import RefusedError, Visit
from beam_fraud.review.people.sessions import Session, find_session, is_form_token, renew_session
from beam_fraud.serve.http.access_log import AccessLog, Entry
from beam_fraud.serve.http.problems import Problem
from beam_fraud.storage.database.engines import engine, keep_connections
from beam_fraud.wording import place_of

_LOG = logging.getLogger(__name__)
#: Headers of every answer.
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
#: Pages that are read at once, forms, which wait for locks, and pages that may take seconds. More
#: at once would all take longer. SQLite's driver gives up its turn with every row: two threads,
#: each waiting for the other at every row, make fewer pages than one.
_THREADS = {"sqlite": (1, 2, 2), "postgresql": (2, 4, 2)}
#: Bytes of a form.
_LONGEST_FORM = 256 * 1024
_FORM = "application/x-www-form-urlencoded"


class ReviewApp:
    """The pages as an ASGI application."""

    def __init__(self, site: Site, log: AccessLog | None = None, *, secure: bool = False) -> None:
        """Assemble the routes.

        Args:
          site: what the pages share.
          log: the access log; None for none.
          secure: whether the server is reached by TLS alone.
        """
        self._site, self._log = site, log
        readers, forms, slow = _THREADS[engine(site.url).name]
        keep_connections(site.url, readers + forms + slow)
        self._readers, self._forms = Turns(readers, "pages"), Turns(forms, "forms")
        self._slow = Turns(slow, "slow pages")
        headers = {**HEADERS, "cache-control": "no-store"}
        if secure:
            headers["strict-transport-security"] = "max-age=31536000"
        #: Headers of an answer that has not its own, as they are sent.
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._router = Router([self._route(page) for page in ROUTES], redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        began, request = time.perf_counter(), Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        there = {name for name, _ in response.raw_headers}
        response.raw_headers += [one for one in self._headers if one[0] not in there]
        await response(scope, receive, send)
        self._note(scope, response.status_code, began)

    def close(self) -> None:
        """Finish the pages in flight."""
        for turns in (self._readers, self._forms, self._slow):
            turns.close()

    def note_refusal(self, problem: Problem, client: str) -> None:
        """Log a request that its connection refused before it was complete."""
        scope = {"method": "-", "client": (client, 0)}
        self._note(scope, problem.status, time.perf_counter())

    def _route(self, page: Page) -> Route:
        async def endpoint(request: Request) -> Response:
            form = await _read_form(request) if page.method == "POST" else Form()
            turns = (
                self._slow if page.slow else self._readers if page.method == "GET" else self._forms
            )
            return await turns.run(page.patience, self._visited, page, request, form)

        return Route(page.path, endpoint, methods=[page.method], name=page.name)

    async def _answer(self, request: Request) -> Response:
        other_method = False
        for route in self._router.routes:
            match, child = route.matches(request.scope)
            if match is Match.FULL and isinstance(route, Route):
                request.scope.update(child)
                request.scope["page"] = route.name
                try:
                    response: Response = await route.endpoint(request)
                except ClientDisconnect:
                    raise
                except Exception as error:
                    return _failed(error)
                return response
            other_method = other_method or match is Match.PARTIAL
        if other_method:
            return _message(HTTPStatus.METHOD_NOT_ALLOWED, "This address takes no such request.")
        return _message(HTTPStatus.NOT_FOUND, "There is no such page.")

    def _visited(self, page: Page, request: Request, form: Form) -> Response:
        """Answer for a page, in a thread."""
        if page.method != "GET" or page.role is None:
            return self._answered(page, request, form)
        with self._site.reading():
            return self._answered(page, request, form)

    def _answered(self, page: Page, request: Request, form: Form) -> Response:
        token = request.cookies.get(SESSION_COOKIE, "")
        session = self._session(token)
        visit = Visit(
            self._site,
            request.scope["path"],
            {name: str(value) for name, value in request.path_params.items()},
            Form.parse(request.scope["query_string"]),
            form,
            request.client.host if request.client else "-",
            self._site.now(),
            session,
            token if session else "",
            request.cookies.get(OPENID_COOKIE, ""),
        )
        if any("\0" in part for part in visit.parts.values()):
            return _message(HTTPStatus.NOT_FOUND, "There is no such page.")
        if page.role is None:
            return self._open(page, visit, request)
        if session is None:
            if page.method == "GET":
                return RedirectResponse(f"/login?next={quote(_target(request))}", 303)
            return _message(HTTPStatus.UNAUTHORIZED, "You are not logged in, or not any more.")
        if session.user.role < page.role:
            return _message(
                HTTPStatus.FORBIDDEN,
                f"This needs the role {page.role.word}; yours is {session.user.role.word}.",
            )
        if page.method == "POST":
            _check_origin(request)
            if not is_form_token(form.get("form_token") or "", token):
                raise RefusedError("The form is not of your session; load the page again.")
        if session.wants_renewal:
            self._site.write(lambda connection: renew_session(connection, session))
        return _handled(page, visit)

    def _open(self, page: Page, visit: Visit, request: Request) -> Response:
        """Answer for a page that needs no log-in; its form is bound to the browser."""
        token = request.cookies.get(LOGIN_COOKIE, "")
        if page.method == "POST":
            _check_origin(request)
            if not token or not is_form_token(visit.form.get("form_token") or "", token):
                raise RefusedError("The form has expired, or cookies are off; load it again.")
        made = token or secrets.token_urlsafe(32)
        response = _handled(page, replace(visit, token=made))
        if not token and page.binds:
            set_cookie(response, LOGIN_COOKIE, made)
        return response

    def _session(self, token: str) -> Session | None:
        if not token:
            return None
        return self._site.read(lambda connection: find_session(connection, token))

    def _note(self, scope: Scope, status: int, began: float) -> None:
        if self._log is None or not self._log.on:
            return
        client = scope.get("client") or ("-", 0)
        self._log.add(
            Entry(
                timestamp=self._log.timestamp(),
                level="error" if status >= 500 else "warning" if status >= 400 else "info",
                logger="beam_fraud.access",
                method=scope["method"],
                # Paths hold ids of cases.
                route=scope.get("page", "other"),
                flags="",
                status=status,
                ms=(time.perf_counter() - began) * 1000,
                bytes_in=0,
                bytes_out=0,
                rows=0,
                token=None,
                client=client[0],
                request_id="-",
                code=None,
            )
        )


def _handled(page: Page, visit: Visit) -> Response:
    """Run the handler of a page; what it refuses is shown on the page with the form."""
    try:
        return page.handler(visit)
    except FraudError as error:
        status = _status_of(error)
        if page.again is None or status not in _SHOWN:
            raise
        return page.again(visit.again(str(error), status))


#: Statuses of what a person can correct on the same page.
_SHOWN = frozenset({409, 422, 429, 502})


def _status_of(error: FraudError) -> int:
    if isinstance(error, MissingError):
        return HTTPStatus.NOT_FOUND
    if isinstance(error, ConflictError):
        return HTTPStatus.CONFLICT
    if isinstance(error, RefusedError):
        return HTTPStatus.FORBIDDEN
    if error.code == Code.LOGIN_LIMITED:
        return HTTPStatus.TOO_MANY_REQUESTS
    if error.code == Code.PROVIDER_SILENT:
        return HTTPStatus.BAD_GATEWAY
    # Of the database; anything else is about what the person entered.
    busy = error.code.startswith("BF6")
    return HTTPStatus.SERVICE_UNAVAILABLE if busy else HTTPStatus.UNPROCESSABLE_ENTITY


def _failed(error: Exception) -> Response:
    if isinstance(error, FraudError):
        status = _status_of(error)
        if status != HTTPStatus.SERVICE_UNAVAILABLE:
            return _message(status, str(error))
        _LOG.error("%s [%s]", error, error.code)
        return _message(status, "The database cannot be used now; try again in a minute.")
    if isinstance(error, HTTPException):
        return _message(error.status_code, error.detail)
    # The text of an exception may hold values of a transaction.
    _LOG.error("a page failed: %s", place_of(error), exc_info=_LOG.isEnabledFor(logging.DEBUG))
    return _message(HTTPStatus.INTERNAL_SERVER_ERROR, "Its log says where.")


#: What people read above the reason, where the words of HTTP say nothing to them.
_TITLES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "Log in again",
    HTTPStatus.FORBIDDEN: "Not allowed",
    HTTPStatus.NOT_FOUND: "Not found",
    HTTPStatus.CONFLICT: "Somebody was faster",
    HTTPStatus.UNPROCESSABLE_ENTITY: "That does not work",
    HTTPStatus.SERVICE_UNAVAILABLE: "Not now",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The server failed",
}


def _message(status: int, text: str) -> Response:
    title = _TITLES.get(status) or HTTPStatus(status).phrase
    return HTMLResponse(render("message", status=int(status), title=title, text=text), status)


def _check_origin(request: Request) -> None:
    """Refuse a form that another site's page sends, as browsers tell."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise RefusedError("The form was sent by another site.")


async def _read_form(request: Request) -> Form:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_FORM:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The form is too long.")
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media != _FORM:
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Send a form ({_FORM}).")
    return Form.parse(bytes(body))


def _target(request: Request) -> str:
    """Return the address of a request, without that of the server."""
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path

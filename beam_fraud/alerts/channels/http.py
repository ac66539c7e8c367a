"""POST to one URL over a persistent connection."""

from __future__ import annotations

import http.client
import logging
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, ClassVar

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection

from beam_fraud.alerts.channels.channel import MessageRefusedError, TryLaterError
from beam_fraud.alerts.channels.deadline import Deadline
from beam_fraud.alerts.message import FIELDS
from beam_fraud.alerts.policy import Policy
from beam_fraud.errors import Code, FraudError

#: Time limits in seconds: to connect, to receive the next bytes, for the whole exchange.
CONNECT_SECONDS, READ_SECONDS, WHOLE_SECONDS = 5.0, 10.0, 30.0
#: Bytes read of a response.
_MOST = 65_536
#: Longest pause in seconds that a receiver may ask for.
_LATER_AT_MOST = 3_600.0
_FAILURES = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
)


@dataclass(frozen=True)
class Reply:
    """The response of a server."""

    status: int
    #: Seconds of `Retry-After`, if the server sent one.
    retry_after: float | None
    #: The first bytes of the body.
    body: bytes


class HttpPost:
    """Post to one URL; follow no redirects, limit every response; for one thread."""

    def __init__(self, url: str, ca_file: str | None = None) -> None:
        """Prepare to post; connect to nothing yet.

        Args:
          url: without a fragment; it may contain a secret, so no message shows it.
          ca_file: certificates to trust instead of the system's.
        """
        self._url = url
        self._ca_file = ca_file
        self._deadline = Deadline()
        self._session: requests.Session | None = None

    def check(self) -> None:
        """Check that the server can be reached, without sending a request.

        Raises:
          FraudError: the server cannot be reached, or its certificate is not trusted. The message
            does not show the URL.
        """
        session = self._opened()
        if select_proxy(self._url, session.proxies) is not None:
            # Only a request shows whether a proxy reaches the server.
            return
        parts = urllib3.util.parse_url(self._url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        # Remove the brackets of an IPv6 address.
        host = str(parts.host).strip("[]")
        try:
            with socket.create_connection((host, port), CONNECT_SECONDS) as plain:
                if parts.scheme == "https":
                    bundle = session.verify if isinstance(session.verify, str) else None
                    context = ssl.create_default_context(cafile=bundle or DEFAULT_CA_BUNDLE_PATH)
                    with context.wrap_socket(plain, server_hostname=host):
                        pass
        except OSError as error:
            raise FraudError(self._why(error), Code.CHANNEL_FAILED) from None

    def post(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send a body and wait for the response.

        Raises:
          FraudError: no complete response arrived. The message does not show the URL.
        """
        session = self._opened()
        try:
            with self._deadline.within(WHOLE_SECONDS), _unlogged():
                response = session.post(
                    self._url,
                    data=body,
                    headers=dict(headers),
                    timeout=(CONNECT_SECONDS, READ_SECONDS),
                    allow_redirects=False,
                    stream=True,
                )
                if self._deadline.passed:
                    # http.client accepts a truncated head as a complete one.
                    raise TimeoutError
                start = _start_of(response)
        except _FAILURES as error:
            self.close()
            raise FraudError(self._why(error), Code.CHANNEL_FAILED) from None
        return Reply(response.status_code, _retry_after(response.headers), start)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
        self._deadline.close()

    def _opened(self) -> requests.Session:
        if self._session is None:
            session = requests.Session()
            # Read proxies and certificates from the environment once; never send a login of
            # ~/.netrc to the receiver.
            settings: dict[str, Any] = dict(
                session.merge_environment_settings(self._url, {}, None, None, None)
            )
            session.trust_env = False
            session.proxies = settings["proxies"]
            session.verify = self._ca_file or settings["verify"]
            adapter = _Adapter(self._deadline)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            self._session = session
        return self._session

    def _why(self, error: BaseException) -> str:
        # Messages of the libraries contain the URL.
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return f"its certificate is not trusted ({cause.verify_message}); see cafile"
        if self._deadline.passed:
            return f"no complete response within {WHOLE_SECONDS:.0f} s"
        broken = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
        for cause in causes:
            if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, broken):
                return f"cannot be reached ({cause.strerror})"
        timeouts = (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError)
        if any(isinstance(cause, timeouts) for cause in causes):
            return "no response in time"
        return "the connection was lost"


class _Unlogged(logging.Filter):
    """Drop log records of urllib3 during a post: they contain the URL."""

    def __init__(self) -> None:
        super().__init__()
        self.posting = ContextVar("posting", default=False)

    def filter(self, record: logging.LogRecord) -> bool:
        return not self.posting.get()


_UNLOGGED = _Unlogged()
for _name in ("urllib3.connection", "urllib3.connectionpool"):
    logging.getLogger(_name).addFilter(_UNLOGGED)


@contextmanager
def _unlogged() -> Iterator[None]:
    token = _UNLOGGED.posting.set(True)
    try:
        yield
    finally:
        _UNLOGGED.posting.reset(token)


def _start_of(response: requests.Response) -> bytes:
    """Return the first bytes of a response; close the connection if more follow."""
    try:
        start: bytes = response.raw.read(_MOST + 1, decode_content=False)
    except _FAILURES:
        # The status alone decides: ignore a broken body.
        start = b""
        response.close()
    if len(start) > _MOST:
        response.close()
    return start[:_MOST]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of `Retry-After`, which holds seconds or a date."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        seconds = float(value[:10])
    else:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _LATER_AT_MOST)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors that caused it."""
    causes: list[BaseException] = [error]
    for one in causes:
        inner = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        causes += [e for e in inner if isinstance(e, BaseException) and e not in causes]
    yield from causes


class _Adapter(HTTPAdapter):
    """Keep one connection; a deadline watches its socket."""

    def __init__(self, deadline: Deadline) -> None:
        self._pools = _watched_pools(deadline)
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _watched_pools(deadline: Deadline) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            connection = super()._new_conn()
            deadline.watch(connection)
            return connection

    class Secured(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            connection = super()._new_conn()
            deadline.watch(connection)
            return connection

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecuredPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secured

    return {"http": PlainPool, "https": SecuredPool}


#: Status codes of temporary failures.
_PASSING = (408, 425, 429)
#: Status codes about the URL or the login. They concern every message, so give none up: the alerts
#: wait until the user corrects the channel.
_MISCONFIGURED = {
    401: "the login or the signature is wrong",
    403: "access is forbidden",
    404: "nothing exists at this URL",
    405: "this URL does not accept a POST",
    407: "the proxy requires a login",
    410: "this URL no longer exists",
}


def settle(where: str, reply: Reply, text: str = "") -> None:
    """Return if the receiver accepted the message, otherwise raise by the status code.

    Args:
      where: the channel, for error messages.
      reply: the response.
      text: text of the response, if it may be shown.

    Raises:
      MessageRefusedError: the receiver refuses this message.
      TryLaterError: the receiver names the time of the next attempt.
      FraudError: the receiver fails at the moment, or the channel's URL or login is wrong.
    """
    status = reply.status
    if 200 <= status < 300:
        return
    response = f"{where}: the response is {status}{f' {text}' if text else ''}"
    if status in _PASSING or status >= 500:
        if reply.retry_after is not None:
            raise TryLaterError(
                f"{response}, with a request to retry in {reply.retry_after:.0f} s",
                Code.CHANNEL_FAILED,
                reply.retry_after,
            )
        raise FraudError(response, Code.CHANNEL_FAILED)
    if 300 <= status < 400:
        raise FraudError(
            f"{response}: redirects are not followed, give the URL of their target",
            Code.CHANNEL_FAILED,
        )
    if status in _MISCONFIGURED:
        raise FraudError(
            f"{response}: {_MISCONFIGURED[status]}; check the URL", Code.CHANNEL_FAILED
        )
    raise MessageRefusedError(response, Code.MESSAGE_REFUSED)


@dataclass(frozen=True)
class HttpChannel:
    """A channel that posts JSON to one URL."""

    disk: ClassVar[Path | None] = None
    #: Scheme, host and a hash of the URL, which may contain a secret.
    name: str
    policy: Policy
    #: The URL to post to, without its fragment.
    url: str = field(repr=False)
    #: Fields of an alert to send.
    fields: tuple[str, ...] = FIELDS
    #: File of certificates to trust instead of the system's.
    ca_file: str | None = None
    _post: HttpPost = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_post", HttpPost(self.url, self.ca_file))

    def check(self) -> None:
        """Check that the server can be reached, without a POST.

        Raises:
          FraudError: the server cannot be reached.
        """
        try:
            self._post.check()
        except FraudError as error:
            raise FraudError(f"--alert {self.name}: {error}", error.code) from None

    def post(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Post JSON.

        Raises:
          FraudError: the server cannot be reached.
        """
        named = {"Content-Type": "application/json", "User-Agent": "beam-fraud", **headers}
        try:
            return self._post.post(body, named)
        except FraudError as error:
            raise FraudError(f"--alert {self.name}: {error}", error.code) from None

    def close(self) -> None:
        self._post.close()

    def describe(self) -> str:
        return self.name

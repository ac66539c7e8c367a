"""POST to one URL, over a connection that is kept."""

from __future__ import annotations

import http.client
import logging
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection

from beam_fraud.alerts.channels.channel import MessageRefusedError, TryLaterError
from beam_fraud.alerts.channels.deadline import Deadline
from beam_fraud.errors import FraudError

#: Seconds to connect, to wait for the next bytes, and for the whole.
CONNECT_SECONDS, READ_SECONDS, WHOLE_SECONDS = 5.0, 10.0, 30.0
#: Bytes of an answer that are read.
_MOST = 65_536
#: Seconds that a receiver may ask to be left alone for.
_LATER_AT_MOST = 3_600.0
_FAILURES = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
)


@dataclass(frozen=True)
class Reply:
    """What a server has answered."""

    status: int
    #: Seconds until it wants to be asked again, if it says so.
    retry_after: float | None
    #: The first bytes of the body.
    body: bytes


class HttpPost:
    """Posts to one URL; follows no redirects, bounds every answer; serves one thread."""

    def __init__(self, url: str, ca_file: str | None = None) -> None:
        """Connect to nothing yet.

        Args:
          url: without a fragment; it may hold a secret, which no message shows.
          ca_file: certificates to trust instead of the system's.
        """
        self._url = url
        self._ca_file = ca_file
        self._deadline = Deadline()
        self._session: requests.Session | None = None

    def check(self) -> None:
        """See that the server can be reached; nothing is asked of it.

        Raises:
          FraudError: it cannot, or its certificate is not trusted; in words without the URL.
        """
        session = self._opened()
        if select_proxy(self._url, session.proxies) is not None:
            # What a proxy can reach is not known before it is asked.
            return
        parts = urllib3.util.parse_url(self._url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        # Without the brackets that an address of IPv6 has in a URL.
        host = str(parts.host).strip("[]")
        try:
            with socket.create_connection((host, port), CONNECT_SECONDS) as plain:
                if parts.scheme == "https":
                    bundle = session.verify if isinstance(session.verify, str) else None
                    context = ssl.create_default_context(cafile=bundle or DEFAULT_CA_BUNDLE_PATH)
                    with context.wrap_socket(plain, server_hostname=host):
                        pass
        except OSError as error:
            raise FraudError(self._why(error)) from None

    def post(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send a body and wait for the answer.

        Raises:
          FraudError: there is no whole answer; in words without the URL.
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
                    # The library takes a head that was cut off for a whole one.
                    raise TimeoutError
                start = _start_of(response)
        except _FAILURES as error:
            self.close()
            raise FraudError(self._why(error)) from None
        return Reply(response.status_code, _retry_after(response.headers), start)

    def close(self) -> None:
        """End the connection."""
        if self._session is not None:
            self._session.close()
            self._session = None
        self._deadline.close()

    def _opened(self) -> requests.Session:
        if self._session is None:
            session = requests.Session()
            # Proxies and certificates of the environment are looked up once; logins of ~/.netrc
            # are none of the receiver's business.
            given: dict[str, Any] = dict(
                session.merge_environment_settings(self._url, {}, None, None, None)
            )
            session.trust_env = False
            session.proxies = given["proxies"]
            session.verify = self._ca_file or given["verify"]
            adapter = _Adapter(self._deadline)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            self._session = session
        return self._session

    def _why(self, error: BaseException) -> str:
        # What the libraries say holds the URL.
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return f"its certificate is not trusted ({cause.verify_message}); see cafile"
        if self._deadline.passed:
            return f"no whole answer within {WHOLE_SECONDS:.0f} s"
        broken = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
        for cause in causes:
            if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, broken):
                return f"cannot be reached ({cause.strerror})"
        timeouts = (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError)
        if any(isinstance(cause, timeouts) for cause in causes):
            return "no answer in time"
        return "the connection was broken off"


class _Unlogged(logging.Filter):
    """Drops what the library logs of our requests: there is the URL in it."""

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
    """The first bytes of an answer; the connection is kept only if these are all."""
    try:
        start: bytes = response.raw.read(_MOST + 1, decode_content=False)
    except _FAILURES:
        # It has said what became of the message; the rest does not change that.
        start = b""
        response.close()
    if len(start) > _MOST:
        response.close()
    return start[:_MOST]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of `Retry-After`, which holds seconds or a date."""
    given = headers.get("Retry-After", "").strip()
    if given.isascii() and given.isdigit():
        seconds = float(given[:10])
    else:
        try:
            moment = parsedate_to_datetime(given)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _LATER_AT_MOST)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it stands for."""
    found: list[BaseException] = [error]
    for one in found:
        inner = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        found += [e for e in inner if isinstance(e, BaseException) and e not in found]
    yield from found


class _Adapter(HTTPAdapter):
    """Keeps one connection, whose socket a deadline watches."""

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


#: Answers that pass.
_PASSING = (408, 425, 429)
#: Answers that are about the URL or the login, and so about every message: to give this one up
#: would lose all of them until someone looks.
_OF_ALL = {
    401: "it wants another login or signature",
    403: "it forbids this",
    404: "there is nothing at this URL",
    405: "it takes no POST",
    407: "the proxy wants a login",
    410: "there is nothing at this URL any more",
}


def settle(where: str, reply: Reply, said: str = "") -> None:
    """Return if a message was taken.

    Args:
      where: the channel, for messages.
      reply: the answer.
      said: what it said, if that may be shown.

    Raises:
      MessageRefusedError: this message will not be taken.
      TryLaterError: the receiver says when it wants it.
      FraudError: not now.
    """
    status = reply.status
    if 200 <= status < 300:
        return
    told = f"{where}: it answered {status}{f' {said}' if said else ''}"
    if status in _PASSING or status >= 500:
        if reply.retry_after is not None:
            raise TryLaterError(
                f"{told}, wants to be asked again in {reply.retry_after:.0f} s", reply.retry_after
            )
        raise FraudError(told)
    if 300 <= status < 400:
        raise FraudError(f"{told}: redirects are not followed, give the URL it leads to")
    if status in _OF_ALL:
        raise FraudError(f"{told}: {_OF_ALL[status]}; check the URL")
    raise MessageRefusedError(told)

"""The server in a channel's URL, and what a URL must not hold."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from beam_fraud.alerts.channels.options import ChannelOptions
from beam_fraud.errors import Code, UsageError

_HOST = re.compile(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]+", re.ASCII)


@dataclass(frozen=True)
class UrlServer:
    """The parts of a URL that names a server."""

    scheme: str
    host: str
    #: None without one.
    port: int | None
    #: As written, percent-encoded (`%40`).
    user: str | None
    password: str | None
    path: str
    query: str
    fragment: str

    @property
    def shown(self) -> str:
        """User, host and port, without the password."""
        user = "" if self.user is None else f"{self.user}@"
        return f"{user}{self.address}"

    @property
    def address(self) -> str:
        """`HOST`, or `HOST:PORT` with a port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


def server_of(url: str, form: str) -> UrlServer:
    """Parse the server of `url`.

    Args:
      url: the URL as the user wrote it.
      form: the expected form, for error messages.

    Raises:
      UsageError: the host is missing or the port is not a number. The message does not show the
        URL, which may contain a password.
    """
    scheme = url.partition(":")[0]
    invalid = UsageError(
        f"--alert: {scheme}: the URL has no valid server and port, write {form}", Code.CHANNEL_URL
    )
    if not url.isprintable():
        raise invalid
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise invalid from None
    host = parts.hostname or ""
    if not _HOST.fullmatch(host) or port == 0:
        raise invalid
    return UrlServer(
        scheme, host, port, parts.username, parts.password, parts.path, parts.query, parts.fragment
    )


def is_loopback(host: str) -> bool:
    """Return whether `host` is this machine.

    Example:
      >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("mail.example")
      (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def receiver_name(scheme: str, server: UrlServer, url: str) -> str:
    """Return a name without path and query, which often contain a token."""
    whole = hashlib.sha256(without_fragment(url).encode()).hexdigest()
    return f"{scheme}://{server.address}/***{whole[:12]}"


def without_fragment(url: str) -> str:
    """Return the URL of the receiver, without our options after `#`."""
    return urlunsplit(urlsplit(url)._replace(fragment=""))


def refuse_login(server: UrlServer, options: ChannelOptions) -> None:
    """Refuse a login in the URL.

    Raises:
      UsageError: it has one.
    """
    if server.user is not None:
        raise UsageError(
            f"{options.where}: other users can read a login in the URL; leave it out",
            Code.SECRET_EXPOSED,
        )


def refuse_unencrypted(scheme: str, server: UrlServer, options: ChannelOptions) -> None:
    """Refuse to send alerts unencrypted to another machine, unless `plain=yes`.

    Raises:
      UsageError: they would be.
    """
    allowed = options.yes("plain", default=False)
    if scheme == "http" and not is_loopback(server.host) and not allowed:
        raise UsageError(
            f"{options.where}: http: sends alerts unencrypted; write https:, or #plain=yes after "
            "the URL",
            Code.CHANNEL_INSECURE,
        )

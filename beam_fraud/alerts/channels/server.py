"""The server in the URL of a channel."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from beam_fraud.errors import UsageError

_HOST = re.compile(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]+", re.ASCII)


@dataclass(frozen=True)
class UrlServer:
    """A URL that names a server, in its parts."""

    scheme: str
    host: str
    #: None if it is not given.
    port: int | None
    #: As it is written, with `%40` and the like.
    user: str | None
    password: str | None
    path: str
    query: str
    fragment: str

    @property
    def shown(self) -> str:
        """User, host and port, without a password."""
        user = "" if self.user is None else f"{self.user}@"
        return f"{user}{self.address}"

    @property
    def address(self) -> str:
        """`HOST`, or `HOST:PORT` if there is one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


def server_of(url: str, form: str) -> UrlServer:
    """The parts of `url`.

    Args:
      url: as the user gave it.
      form: how it is written, for messages.

    Raises:
      UsageError: no host is named, or the port is no number. The URL is not repeated: there may be
        a password in it.
    """
    scheme = url.partition(":")[0]
    wrong = UsageError(f"--alert: {scheme}: no server and port can be read, write {form}")
    if not url.isprintable():
        raise wrong
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    host = parts.hostname or ""
    if not _HOST.fullmatch(host) or port == 0:
        raise wrong
    return UrlServer(
        scheme, host, port, parts.username, parts.password, parts.path, parts.query, parts.fragment
    )


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine.

    Example:
      >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("mail.example")
      (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

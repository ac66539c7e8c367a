"""Where a server listens: its address, certificates and open files."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import resource
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from beam_fraud.errors import Code, FraudError, UsageError, fix_of
from beam_fraud.serve.http.limits import Limits
from beam_fraud.serve.http.sharing import Shared
from beam_fraud.wording import reason_of

_LOG = logging.getLogger(__name__)
#: Open files beside those of connections: of the state, the sink and libraries.
_OTHER_FILES = 256


@dataclass(frozen=True)
class Listen:
    """Where a server listens, and by which certificates."""

    #: Address or name of an interface.
    host: str = "127.0.0.1"
    #: Port; 0 for a free one.
    port: int = 8000
    #: PEM files of the server's certificate chain and its key; None for HTTP without TLS.
    tls_cert: Path | None = None
    tls_key: Path | None = None
    #: PEM file of the authorities whose client certificates are accepted; None to ask for none.
    tls_client_ca: Path | None = None
    #: What its options of address and port begin with.
    prefix: str = "--"
    #: The socket that several processes accept connections from; None to bind one.
    shared: Shared | None = None

    def __post_init__(self) -> None:
        """Check that the options of TLS go together.

        Raises UsageError if they do not.
        """
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("--tls-cert and --tls-key need each other", Code.OPTION_CONFLICT)
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise UsageError("--tls-client-ca needs --tls-cert", Code.OPTION_CONFLICT)

    @property
    def on_loopback(self) -> bool:
        """Return whether only this machine reaches the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class Certificates:
    """Certificates of a server, which are read again when their files change."""

    def __init__(self, listen: Listen) -> None:
        """Read the files.

        Args:
          listen: names them.

        Raises:
          FraudError: one cannot be read.
        """
        self._listen = listen
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._seen = self._stamp()
        self._load()
        if listen.tls_client_ca is not None:
            option = "--tls-client-ca"
            with _unreadable(option, listen.tls_client_ca):
                self.context.load_verify_locations(listen.tls_client_ca)
            self.context.verify_mode = ssl.CERT_REQUIRED

    def reload(self) -> None:
        """Read changed files; keep the certificates of before if they are invalid."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._load()
        except FraudError as error:
            _LOG.error("%s; the certificate of before is used [%s]", error, error.code)

    def _load(self) -> None:
        cert, key = self._listen.tls_cert, self._listen.tls_key
        assert cert is not None
        with _unreadable("--tls-cert and --tls-key", cert):
            # A password cannot be asked for.
            self.context.load_cert_chain(cert, key, password="")

    def _stamp(self) -> tuple[int, ...]:
        stamp = []
        for file in (self._listen.tls_cert, self._listen.tls_key):
            with contextlib.suppress(OSError):
                if file is not None:
                    status = file.stat()
                    stamp += [status.st_mtime_ns, status.st_ino, status.st_size]
        return tuple(stamp)


@contextlib.contextmanager
def _unreadable(option: str, file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        # An error of TLS is an OSError without a number of the system.
        why = error.reason if isinstance(error, ssl.SSLError) and error.reason else reason_of(error)
        raise FraudError(
            f"{option} {file}: {why}; give PEM files of a certificate and its key, unencrypted",
            Code.SECRET_UNREADABLE,
        ) from None


def bound(listen: Listen) -> socket.socket:
    """Return a socket bound to the address, or the shared one.

    Raises:
      FraudError: it cannot be used.
    """
    if listen.shared is not None:
        return listen.shared.socket
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _port_unusable(listen, error) from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)
        bound.bind(address)
    except (OSError, OverflowError) as error:
        bound.close()
        raise _port_unusable(listen, error) from None
    return bound


def _port_unusable(listen: Listen, error: Exception) -> FraudError:
    fix = fix_of(error) if isinstance(error, OSError) else "give a port up to 65535"
    return FraudError(
        f"{listen.prefix}host {listen.host} {listen.prefix}port {listen.port}: "
        f"{reason_of(error)}; {fix}",
        Code.PORT_UNUSABLE,
    )


def within_open_files(limits: Limits) -> Limits:
    """Allow as many open files as connections need; if the system refuses, allow fewer connections.

    Beyond the files allowed nothing can be accepted, not even a good client.
    """
    needed = limits.connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return limits
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed == needed:
        return limits
    connections = max(allowed - _OTHER_FILES, 1)
    _LOG.warning(
        "%d open files are allowed (ulimit -n), so %d connections at a time", allowed, connections
    )
    return replace(limits, connections=connections)

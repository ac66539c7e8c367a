"""Where a server listens and logs requests, by its options."""

from __future__ import annotations

from pathlib import Path

from beam_fraud.cli.options import ReviewOptions, ServeOptions
from beam_fraud.cli.options.groups import ServedOptions
from beam_fraud.cli.terminal import log
from beam_fraud.serve.http.access_log import AccessLogSettings
from beam_fraud.serve.http.listen import Listen
from beam_fraud.serve.http.sharing import Shared

#: `--access-log` of a server that logs no requests.
_NOWHERE = "none"


def listen_of(options: ServeOptions | ReviewOptions, shared: Shared | None = None) -> Listen:
    """Return the address and the certificates.

    Args:
      options: the options.
      shared: the socket of several processes.

    Raises:
      UsageError: options of TLS do not go together.
    """
    files = (options.tls_cert, options.tls_key, options.tls_client_ca)
    cert, key, authorities = (None if file is None else Path(file) for file in files)
    prefix = options.prefix if isinstance(options, ReviewOptions) else "--"
    return Listen(options.host, options.port, cert, key, authorities, prefix, shared)


def access_log_of(options: ServedOptions) -> AccessLogSettings:
    """Return the settings of the access log, in the form of all messages."""
    return AccessLogSettings(
        form=log.form(),
        file=None if options.access_log in (None, _NOWHERE) else Path(str(options.access_log)),
        on=options.access_log != _NOWHERE,
    )

"""The server of the pages."""

from __future__ import annotations

from collections.abc import Callable

from beam_fraud.errors import Code, UsageError
from beam_fraud.review.http.app import ReviewApp
from beam_fraud.review.http.site import Site
from beam_fraud.review.http.templating import compile_templates
from beam_fraud.serve.http.access_log import AccessLog, AccessLogSettings
from beam_fraud.serve.http.limits import Limits
from beam_fraud.serve.http.listen import Listen
from beam_fraud.serve.http.service import Service

#: Limits of browsers' requests: forms are small.
_LIMITS = Limits(body_bytes=256 * 1024, connections=500)


class ReviewServer:
    """Serves the pages until it is stopped."""

    def __init__(self, site: Site, listen: Listen, log: AccessLogSettings) -> None:
        """Bind the port.

        Args:
          site: what the pages share.
          listen: address and certificates.
          log: the access log.

        Raises:
          UsageError: other machines reach the address, and there is no certificate.
          FraudError: a file cannot be read or written, or the port cannot be listened on.
        """
        if listen.tls_cert is None and not listen.on_loopback:
            raise UsageError(
                f"{listen.prefix}host {listen.host}: other machines reach it, so passwords need "
                "TLS; give --tls-cert and --tls-key, or listen on 127.0.0.1 behind a proxy with "
                "TLS",
                Code.TLS_MISSING,
            )
        # Before anybody waits for a page.
        compile_templates()
        self._service = Service(listen, _LIMITS)
        #: URL of the server.
        self.url = self._service.url
        # Lines that a full disk loses are not counted: there are no metrics here.
        self._log = AccessLog(log, lambda: None)
        self._app = ReviewApp(site, self._log, secure=listen.tls_cert is not None)

    def run(self, on_started: Callable[[], None] = lambda: None) -> None:
        """Answer requests until `stop`, then finish those in flight.

        Args:
          on_started: called when the port answers.
        """
        self._service.run(
            self._app,
            note=self._app.note_refusal,
            reload=lambda: None,
            ended=self._end,
            on_started=on_started,
        )

    def _end(self) -> None:
        self._app.close()
        self._log.close()

    def stop(self) -> None:
        """End `run`; for other threads and handlers of signals."""
        self._service.stop()

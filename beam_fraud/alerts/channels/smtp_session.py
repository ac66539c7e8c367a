"""A persistent connection to a mail server."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import monotonic

from beam_fraud.alerts.channels.deadline import Deadline
from beam_fraud.errors import Code, FraudError

#: Time limits in seconds: to connect, to receive a response, for a whole e-mail.
CONNECT_SECONDS, ANSWER_SECONDS, LETTER_SECONDS = 10.0, 30.0, 120.0
#: Reconnect after so many idle seconds: a firewall may drop an idle connection without notice, and
#: the client would wait for a response until the time limit.
_IDLE_SECONDS = 30.0


@dataclass(frozen=True)
class SmtpServer:
    """A mail server and its login."""

    host: str
    port: int
    #: `tls` from the start, `starttls` before anything else, or `plain`.
    security: str
    user: str | None = None
    #: File of certificates to trust instead of the system's.
    ca_file: str | None = None


class RefusalError(Exception):
    """An error response of the server."""

    def __init__(self, code: int, text: bytes | str, *, of_letter: bool = False) -> None:
        """Store a response.

        Args:
          code: three digits.
          text: the server's text.
          of_letter: whether the response concerns this e-mail or recipient alone.
        """
        line = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
        super().__init__(f"{code} {' '.join(line.split())}")
        self.code = code
        #: Whether the refusal of this e-mail is final.
        self.final = of_letter and code >= 500


class SmtpSession:
    """Connect when needed, reconnect when dropped; for one thread."""

    def __init__(self, server: SmtpServer, password: Callable[[], str | None]) -> None:
        """Prepare a session; each login calls `password`."""
        self._server = server
        self._password = password
        self._deadline = Deadline()
        self._smtp: _Client | None = None
        self._used = 0.0

    def open(self) -> bool:
        """Connect and log in unless the session is open.

        Returns:
          Whether the connection is new.

        Raises:
          FraudError: the login cannot work as configured.
          RefusalError: the server refuses the session.
          OSError, smtplib.SMTPException: the connection failed.
        """
        if self._smtp is not None and monotonic() - self._used > _IDLE_SECONDS:
            self.close()
        fresh = self._smtp is None
        if fresh:
            with self._within():
                self._smtp = self._connected()
        self._used = monotonic()
        return fresh

    def deliver(
        self, sender: str, recipients: Iterable[str], letter: bytes
    ) -> dict[str, RefusalError]:
        """Transmit an e-mail; after the server accepted it, the server delivers it.

        Args:
          sender: address of the envelope.
          recipients: addresses of the envelope.
          letter: the e-mail with CRLF line ends.

        Returns:
          Refused recipients with their responses. With all refused, the e-mail was not transmitted.

        Raises:
          FraudError, OSError, smtplib.SMTPException: as in `open`.
          RefusalError: the server refuses the e-mail.
        """
        fresh = self.open()
        try:
            self._begin(sender, letter)
        except (OSError, smtplib.SMTPException, RefusalError) as error:
            self.close()
            # A server may close a connection between e-mails: that is no failure.
            if fresh or (isinstance(error, RefusalError) and error.code != 421):
                raise
            self.open()
            self._begin(sender, letter)
        try:
            with self._within():
                refused = self._hand_over(recipients, letter)
        except BaseException:
            self.close()
            raise
        self._used = monotonic()
        return refused

    def close(self) -> None:
        if self._smtp is not None:
            self._smtp.close()
            self._smtp = None
        self._deadline.close()

    def why(self, error: BaseException) -> str:
        """Describe an error in one line."""
        # The library reports a time-out as a closed connection.
        if self._deadline.passed or any(
            isinstance(one, TimeoutError) for one in (error, error.__context__)
        ):
            return "no response in time"
        if isinstance(error, smtplib.SMTPServerDisconnected):
            return "the connection was lost"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({error.verify_message}); see cafile"
        if isinstance(error, smtplib.SMTPResponseException):
            return str(RefusalError(error.smtp_code, error.smtp_error))
        if isinstance(error, smtplib.SMTPException) or not getattr(error, "strerror", None):
            return " ".join(str(error).split())
        return f"cannot be reached ({getattr(error, 'strerror', '')})"

    def _within(self) -> AbstractContextManager[None]:
        return self._deadline.within(LETTER_SECONDS)

    def _connected(self) -> _Client:
        context = ssl.create_default_context(cafile=self._server.ca_file)
        client = _Client(self._server, self._deadline, context)
        try:
            client.ehlo_or_helo_if_needed()
            if self._server.security == "starttls":
                if not client.has_extn("starttls"):
                    raise FraudError(
                        "the server offers no STARTTLS, and no alert is sent unencrypted",
                        Code.CHANNEL_INSECURE,
                    )
                client.starttls(context=context)
                client.ehlo_or_helo_if_needed()
            if self._server.user is not None:
                self._log_in(client, self._server.user)
        except BaseException:
            client.close()
            raise
        return client

    def _log_in(self, client: _Client, user: str) -> None:
        password = self._password()
        try:
            client.login(user, password or "")
        except smtplib.SMTPNotSupportedError:
            raise FraudError(
                "the server offers no login; leave the user out of the URL", Code.CHANNEL_LOGIN
            ) from None
        except smtplib.SMTPAuthenticationError as error:
            if error.smtp_code < 500:
                raise RefusalError(error.smtp_code, "the login is not possible now") from None
            raise FraudError(
                f"the login was refused ({error.smtp_code}); check the user and the password",
                Code.CHANNEL_LOGIN,
            ) from None
        except UnicodeError:
            raise FraudError(
                "the password has characters that SMTP cannot send", Code.CHANNEL_LOGIN
            ) from None

    def _begin(self, sender: str, letter: bytes) -> None:
        assert self._smtp is not None
        size = f"size={len(letter)}"
        options = [size] if self._smtp.has_extn("size") else []
        with self._within():
            code, text = self._smtp.mail(sender, options)
        if code != 250:
            # 552 concerns the size of this e-mail; other codes concern the sender, so every e-mail.
            raise RefusalError(code, text, of_letter=code == 552)

    def _hand_over(self, recipients: Iterable[str], letter: bytes) -> dict[str, RefusalError]:
        client = self._smtp
        assert client is not None
        refused: dict[str, RefusalError] = {}
        accepted = 0
        for recipient in recipients:
            try:
                _expect(client.rcpt(recipient), 250, 251)
                accepted += 1
            except RefusalError as refusal:
                if refusal.code == 421:
                    raise
                refused[recipient] = refusal
        if not accepted:
            client.rset()
            return refused
        try:
            _expect(client.data(letter), 250)
        except smtplib.SMTPDataError as error:
            raise RefusalError(error.smtp_code, error.smtp_error, of_letter=True) from None
        return refused


class _Client(smtplib.SMTP):
    def __init__(self, server: SmtpServer, deadline: Deadline, context: ssl.SSLContext) -> None:
        self._deadline = deadline
        self._at_once = context if server.security == "tls" else None
        # Without `local_hostname`, smtplib may wait for a name server.
        name = socket.gethostname()
        super().__init__(
            server.host,
            server.port,
            local_hostname=name if "." in name else "[127.0.0.1]",
            timeout=ANSWER_SECONDS,
        )

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        connection = socket.create_connection((host, port), CONNECT_SECONDS)
        try:
            # Requests and responses are short: Nagle's algorithm would delay them.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(timeout)
            self._deadline.watch(connection)
            if self._at_once is not None:
                return self._at_once.wrap_socket(connection, server_hostname=host)
        except BaseException:
            connection.close()
            raise
        return connection


def _expect(answer: tuple[int, bytes], *codes: int) -> None:
    if answer[0] not in codes:
        raise RefusalError(*answer, of_letter=True)

"""A real mail server on this machine with configurable faults."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from deploy.kafka.broker import free_port


@dataclass
class Letter:
    """A letter that the server has accepted."""

    recipients: list[str]
    content: bytes
    tls: bool

    @property
    def mail(self) -> EmailMessage:
        """The letter, parsed."""
        return message_from_bytes(self.content, policy=default)  # type: ignore[return-value]


class _Smtp(SMTP):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.event_handler.connections.append(transport)
        super().connection_made(transport)


class _Controller(Controller):
    def factory(self) -> SMTP:
        return _Smtp(self.handler, **self.SMTP_kwargs)


@dataclass
class SmtpServer:
    """Accepts letters unless a test says otherwise; counts them by Message-ID."""

    #: Certificate for STARTTLS, or for TLS at once.
    context: ssl.SSLContext | None = None
    #: TLS at once.
    smtps: bool = False
    #: User and password that a client must log in with.
    login: tuple[str, str] | None = None
    port: int = field(default_factory=free_port)
    #: Recipient to the answer it gets; "" is for all.
    recipients: dict[str, str] = field(default_factory=dict)
    #: How the next letters are answered, instead of being accepted; `drop` after they are accepted
    #: breaks the connection off, `stall` never answers.
    answers: list[str] = field(default_factory=list)
    #: Answer to all letters, while it is not empty.
    answer: str = ""
    #: Accepted ones, in order.
    letters: list[Letter] = field(default_factory=list)
    #: Connections that have been made.
    connections: list[Any] = field(default_factory=list)
    _controller: Controller | None = None

    @property
    def ids(self) -> Counter[str]:
        """Return how often each Message-ID was accepted."""
        return Counter(str(letter.mail["Message-ID"]) for letter in self.letters)

    def start(self) -> Self:
        """Listen at `port`, unless the server listens already."""
        if self._controller is None:
            options: dict[str, Any] = {}
            if self.login is not None:
                options = {"auth_required": True, "authenticator": self._authenticate}
                options["auth_require_tls"] = self.context is not None and not self.smtps
            if self.context is not None and not self.smtps:
                options |= {"tls_context": self.context, "require_starttls": True}
            self._controller = _Controller(
                self,
                hostname="127.0.0.1",
                port=self.port,
                ssl_context=self.context if self.smtps else None,
                ready_timeout=30,
                **options,
            )
            self._controller.start()
            self.connections.clear()
        return self

    def stop(self) -> None:
        """Break all connections and stop listening, unless it has stopped."""
        if self._controller is not None:
            for connection in self.connections:
                self._controller.loop.call_soon_threadsafe(connection.abort)
            self._controller.stop()
            self._controller = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        assert self.login is not None
        value = (data.login.decode(), data.password.decode())
        # Not handled here: it is the server that answers.
        return AuthResult(success=value == self.login, handled=False)

    async def handle_RCPT(  # noqa: N802  so aiosmtpd calls it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.recipients.get(address) or self.recipients.get("")
        if answer is not None:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802  so aiosmtpd calls it
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        answer = self.answers.pop(0) if self.answers else self.answer
        if answer == "stall":
            await asyncio.sleep(3600)
        if answer and answer != "drop":
            return answer
        content = envelope.content
        assert isinstance(content, bytes)
        tls = server.transport.get_extra_info("ssl_object") is not None
        self.letters.append(Letter(list(envelope.rcpt_tos), content, tls))
        if answer == "drop":
            server.transport.abort()
        return "250 accepted"

"""Send alerts by e-mail."""

from __future__ import annotations

import html
import logging
import smtplib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import ClassVar

from beam_fraud.alerts.channels.channel import MessageRefusedError
from beam_fraud.alerts.channels.smtp_session import RefusalError, SmtpServer, SmtpSession
from beam_fraud.alerts.message import FIELDS, Message
from beam_fraud.alerts.policy import Policy
from beam_fraud.alerts.template import MessageTemplate, default_template
from beam_fraud.alerts.wording import headline
from beam_fraud.errors import Code, FraudError
from beam_fraud.platform.wording import printable
from beam_fraud.storage.secret import read_secret

_LOG = logging.getLogger(__name__)
#: HTML frame of an e-mail that has a text template alone.
_PLAIN = '<!DOCTYPE html>\n<html><body><pre style="white-space: pre-wrap">{}</pre></body></html>\n'


@dataclass(frozen=True)
class LetterForm:
    """Sender, recipients and templates of a channel's e-mails."""

    #: Address of the sender.
    sender: Address
    #: Addresses of the recipients.
    recipients: tuple[Address, ...]
    #: Fields of an alert that the default templates and the subject show.
    fields: tuple[str, ...] = FIELDS
    #: The user's templates; None selects the default.
    text: MessageTemplate | None = None
    html: MessageTemplate | None = None

    def letter(self, message: Message) -> bytes:
        """Return the e-mail of a message, ASCII with CRLF: the same bytes at every attempt.

        If a template fails, the default one replaces it: an alert in another form is better than
        none.
        """
        mail = EmailMessage(policy=SMTP)
        mail["Message-ID"] = f"<{message.delivery_id}@{self.sender.domain}>"
        mail["Date"] = message.created_at
        mail["From"] = self.sender
        mail["To"] = self.recipients
        mail["Subject"] = headline(message, self.fields)
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Beam-Fraud-Delivery"] = message.delivery_id
        mail["X-Beam-Fraud-Kind"] = message.kind
        mail["X-Beam-Fraud-Alerts"] = str(message.total)
        text, marked_up = self._parts(message)
        # Encode to short ASCII lines, so that no server has to change them.
        mail.set_content(text, cte="quoted-printable")
        mail.add_alternative(marked_up, subtype="html", cte="quoted-printable")
        mail.set_boundary(f"=_beam-fraud_{message.delivery_id}")
        return mail.as_bytes()

    def _parts(self, message: Message) -> tuple[str, str]:
        try:
            if self.text is not None:
                text = self.text.render(message)
                marked_up = _PLAIN.format(html.escape(text))
                return text, marked_up if self.html is None else self.html.render(message)
        except Exception as error:
            _LOG.warning("a template failed (%s), the default one is used", type(error).__name__)
        return (
            default_template("message.txt", self.fields).render(message),
            default_template("message.html", self.fields).render(message),
        )


#: Maximum of partly delivered messages to remember.
_REMEMBERED = 1_000
#: Variable of the password if the URL names no other place.
PASSWORD_VARIABLE = "BEAM_FRAUD_SMTP_PASSWORD"


@dataclass(frozen=True)
class SmtpChannel:
    """Send one e-mail per message, to all recipients at once."""

    #: It writes no file on this machine.
    disk: ClassVar[Path | None] = None
    #: `smtp://` or `smtps://`, user, server and recipients.
    name: str
    policy: Policy
    server: SmtpServer
    form: LetterForm
    #: Place of the password, as `read_secret` takes it.
    secrets: Mapping[str, str] = field(default_factory=dict)
    _session: SmtpSession = field(init=False, repr=False, compare=False)
    #: Delivery id to the addresses that have the e-mail while others wait for it.
    _given: OrderedDict[str, set[str]] = field(
        init=False, repr=False, compare=False, default_factory=OrderedDict
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "_session", SmtpSession(self.server, self._password))

    def check(self) -> None:
        """Connect and log in without sending an e-mail.

        Raises:
          FraudError: the server cannot be reached or refuses the login.
        """
        try:
            self._session.open()
        except (FraudError, OSError, smtplib.SMTPException, RefusalError) as error:
            raise self._failure(error) from None
        finally:
            self._session.close()

    def send(self, message: Message) -> None:
        """Send the e-mail; it has the same Message-ID at every attempt.

        If the server refuses some recipients for good, log a warning that names them.

        Raises:
          MessageRefusedError: the server refuses this e-mail for good.
          FraudError: the server cannot be reached or fails at the moment.
        """
        addresses = [address.addr_spec for address in self.form.recipients]
        given = self._given.get(message.delivery_id, set())
        waiting = [address for address in addresses if address not in given]
        try:
            refused = self._session.deliver(
                self.form.sender.addr_spec, waiting, self.form.letter(message)
            )
        except (FraudError, OSError, smtplib.SMTPException, RefusalError) as error:
            raise self._failure(error) from None
        self._weigh(message.delivery_id, given | {*waiting} - refused.keys(), refused)

    def close(self) -> None:
        self._session.close()

    def describe(self) -> str:
        return self.name

    def _weigh(self, delivery: str, given: set[str], refused: dict[str, RefusalError]) -> None:
        """Raise unless every recipient that the server accepts has the e-mail."""
        later = {address: why for address, why in refused.items() if not why.final}
        never = {address: why for address, why in refused.items() if why.final}
        if later:
            # Recipients that have the e-mail get no second one at the next attempt.
            self._given[delivery] = given
            while len(self._given) > _REMEMBERED:
                self._given.popitem(last=False)
            raise self._failure(next(iter(later.values())), _many(later))
        self._given.pop(delivery, None)
        if never and not given:
            raise self._failure(next(iter(never.values())), _many(never))
        for address, why in never.items():
            _LOG.warning(
                "--alert %s: %s gets no alerts (%s)", self.name, address, printable(str(why), 200)
            )

    def _failure(self, error: BaseException, whom: str = "") -> FraudError:
        if isinstance(error, RefusalError):
            said = f"--alert {self.name}: refused{whom} ({printable(str(error), 200)})"
            if error.final:
                return MessageRefusedError(said, Code.MESSAGE_REFUSED)
            return FraudError(said, Code.CHANNEL_FAILED)
        if isinstance(error, FraudError):
            return FraudError(f"--alert {self.name}: {printable(str(error), 200)}", error.code)
        why = printable(self._session.why(error), 200)
        return FraudError(f"--alert {self.name}: {why}", Code.CHANNEL_FAILED)

    def _password(self) -> str | None:
        password = read_secret("the login", "password", self.secrets, PASSWORD_VARIABLE)
        if not password:
            raise FraudError(
                f"there is no password; set {PASSWORD_VARIABLE}, or give password_file=FILE",
                Code.SECRET_UNREADABLE,
            )
        return password


def _many(refused: Mapping[str, RefusalError]) -> str:
    first, *others = refused
    return f" for {first} and {len(others)} more" if others else f" for {first}"

"""Alerts by e-mail."""

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

from beam_fraud.alerts.channels.channel import MessageRefusedError
from beam_fraud.alerts.channels.smtp_session import RefusalError, SmtpServer, SmtpSession
from beam_fraud.alerts.message import FIELDS, Message
from beam_fraud.alerts.policy import Policy
from beam_fraud.alerts.template import MessageTemplate, default_template
from beam_fraud.alerts.wording import headline
from beam_fraud.errors import FraudError
from beam_fraud.monitoring.printable import printable
from beam_fraud.storage.secret import read_secret

_LOG = logging.getLogger(__name__)
#: What a letter that is made of text alone looks like in HTML.
_PLAIN = '<!DOCTYPE html>\n<html><body><pre style="white-space: pre-wrap">{}</pre></body></html>\n'


@dataclass(frozen=True)
class LetterForm:
    """What the letters of a channel have in common."""

    #: Whom they are from.
    sender: Address
    #: Whom they are for.
    recipients: tuple[Address, ...]
    #: What of an alert the default templates and the subject show.
    fields: tuple[str, ...] = FIELDS
    #: The user's templates, if there are any.
    text: MessageTemplate | None = None
    html: MessageTemplate | None = None

    def letter(self, message: Message) -> bytes:
        """The e-mail for a message, with CRLF line ends and in ASCII.

        A template that fails gives way to the default one: an alert that looks otherwise is better
        than none.
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
        # Lines are short and in ASCII whatever is in them, so that no server has to change them.
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


#: Deliveries of which some recipients wait that are remembered at most.
_REMEMBERED = 1_000
#: Where the password is looked for if the URL names no place.
PASSWORD_VARIABLE = "BEAM_FRAUD_SMTP_PASSWORD"


@dataclass(frozen=True)
class SmtpChannel:
    """One letter a message, to all recipients at once."""

    #: `smtp://` or `smtps://`, user, server and recipients.
    name: str
    policy: Policy
    server: SmtpServer
    form: LetterForm
    #: Where the password is, as `read_secret` reads it.
    secrets: Mapping[str, str] = field(default_factory=dict)
    _session: SmtpSession = field(init=False, repr=False, compare=False)
    #: Delivery to the addresses that have it, while others wait for it.
    _given: OrderedDict[str, set[str]] = field(
        init=False, repr=False, compare=False, default_factory=OrderedDict
    )

    def __post_init__(self) -> None:
        """Connect to nothing yet."""
        object.__setattr__(self, "_session", SmtpSession(self.server, self._password))

    def check(self) -> None:
        """Connect and log in; no letter is sent.

        Raises:
          FraudError: the server cannot be reached or does not want this login.
        """
        try:
            self._session.open()
        except (FraudError, OSError, smtplib.SMTPException, RefusalError) as error:
            raise self._failure(error) from None
        finally:
            self._session.close()

    def send(self, message: Message) -> None:
        """Hand the letter to the server; it has the same Message-ID at every attempt.

        Where a recipient is refused for good and others are not, that is told in a warning.

        Raises:
          MessageRefusedError: the server wants neither this letter nor will it later.
          FraudError: it cannot be reached, or not now.
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
        """End the connection."""
        self._session.close()

    def describe(self) -> str:
        """The name, which holds no secret."""
        return self.name

    def _weigh(self, delivery: str, given: set[str], refused: dict[str, RefusalError]) -> None:
        """Raise unless everyone has the letter who will take it."""
        later = {address: why for address, why in refused.items() if not why.final}
        never = {address: why for address, why in refused.items() if why.final}
        if later:
            # Whoever has the letter gets no second one when the others are asked again.
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
            return MessageRefusedError(said) if error.final else FraudError(said)
        why = str(error) if isinstance(error, FraudError) else self._session.why(error)
        return FraudError(f"--alert {self.name}: {printable(why, 200)}")

    def _password(self) -> str | None:
        password = read_secret("the login", "password", self.secrets, PASSWORD_VARIABLE)
        if not password:
            raise FraudError(
                f"there is no password; set {PASSWORD_VARIABLE}, or give password_file=FILE"
            )
        return password


def _many(refused: Mapping[str, RefusalError]) -> str:
    first, *others = refused
    return f" for {first} and {len(others)} more" if others else f" for {first}"

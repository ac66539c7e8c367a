"""Send alerts by e-mail: `smtp:` and `smtps:`."""

from __future__ import annotations

import html
import logging
import smtplib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import getaddresses
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, unquote

from beam_fraud.alerts.channels.channel import MessageRefusedError
from beam_fraud.alerts.channels.options import ChannelOptions, parse_options
from beam_fraud.alerts.channels.server import is_loopback, server_of
from beam_fraud.alerts.channels.smtp_session import RefusalError, SmtpServer, SmtpSession
from beam_fraud.alerts.message import FIELDS, Message
from beam_fraud.alerts.policy import SHOWN_IN_DIGEST, Policy, Rate
from beam_fraud.alerts.template import MessageTemplate, default_template, read_template
from beam_fraud.alerts.wording import headline
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.schema.text_file import read_secret
from beam_fraud.wording import printable

_LOG = logging.getLogger(__name__)
#: HTML frame of an e-mail with a text template only.
_PLAIN = '<!DOCTYPE html>\n<html><body><pre style="white-space: pre-wrap">{}</pre></body></html>\n'
FORM = "smtp://USER@HOST:587/?from=ADDRESS&to=ADDRESS"
_PORTS = {"smtp": 587, "smtps": 465}
_OPTIONS = ("from", "to", "starttls", "cafile", "password_file", "password_env")
_TEMPLATES = ("template", "html_template")
#: For people: one message per account and five minutes, and at most one message per minute.
_POLICY = Policy(group=300.0, most=50, rate=Rate(60, 3600.0), digest=SHOWN_IN_DIGEST)


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

        If a template fails, use the default template: send the alert rather than none.
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
        # Encode to short ASCII lines: no server has to change them.
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
            _LOG.warning(
                "a template failed (%s): the default template is used", type(error).__name__
            )
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

    disk: ClassVar[Path | None] = None
    #: `smtp://` or `smtps://`, user, server and recipients.
    name: str
    policy: Policy
    server: SmtpServer
    form: LetterForm
    #: Options of the URL, of which `read_secret` reads the password's location.
    secrets: Mapping[str, str] = field(default_factory=dict)
    _session: SmtpSession = field(init=False, repr=False, compare=False)
    #: Id of a partly delivered message to the addresses that have it.
    _delivered: OrderedDict[str, set[str]] = field(
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

        If the server refuses some recipients permanently, log a warning that names them.

        Raises:
          MessageRefusedError: the server refuses this e-mail permanently.
          FraudError: the server cannot be reached or fails at the moment.
        """
        addresses = [address.addr_spec for address in self.form.recipients]
        delivered = self._delivered.get(message.delivery_id, set())
        waiting = [address for address in addresses if address not in delivered]
        try:
            refused = self._session.deliver(
                self.form.sender.addr_spec, waiting, self.form.letter(message)
            )
        except (FraudError, OSError, smtplib.SMTPException, RefusalError) as error:
            raise self._failure(error) from None
        self._settle(message.delivery_id, delivered | {*waiting} - refused.keys(), refused)

    def close(self) -> None:
        self._session.close()

    def describe(self) -> str:
        return self.name

    def _settle(self, message: str, delivered: set[str], refused: dict[str, RefusalError]) -> None:
        """Raise if a recipient is to be retried, or if no recipient has the e-mail."""
        temporary = {address: why for address, why in refused.items() if not why.final}
        permanent = {address: why for address, why in refused.items() if why.final}
        if temporary:
            # Remember who has the e-mail: the next attempt goes to the others only.
            self._delivered[message] = delivered
            while len(self._delivered) > _REMEMBERED:
                self._delivered.popitem(last=False)
            raise self._failure(next(iter(temporary.values())), _many(temporary))
        self._delivered.pop(message, None)
        if permanent and not delivered:
            raise self._failure(next(iter(permanent.values())), _many(permanent))
        for address, why in permanent.items():
            _LOG.warning(
                "--alert %s: %s gets no alerts (%s)", self.name, address, printable(str(why), 200)
            )

    def _failure(self, error: BaseException, recipients: str = "") -> FraudError:
        if isinstance(error, RefusalError):
            reason = f"--alert {self.name}: refused{recipients} ({printable(str(error), 200)})"
            if error.final:
                return MessageRefusedError(reason, Code.MESSAGE_REFUSED)
            return FraudError(reason, Code.CHANNEL_FAILED)
        if isinstance(error, FraudError):
            return FraudError(f"--alert {self.name}: {printable(str(error), 200)}", error.code)
        why = printable(self._session.why(error), 200)
        return FraudError(f"--alert {self.name}: {why}", Code.CHANNEL_FAILED)

    def _password(self) -> str | None:
        password = read_secret("the login", "password", self.secrets, PASSWORD_VARIABLE)
        if not password:
            raise FraudError(
                f"the password is missing; set {PASSWORD_VARIABLE}, or give password_file=FILE",
                Code.SECRET_UNREADABLE,
            )
        return password


def _many(refused: Mapping[str, RefusalError]) -> str:
    first, *others = refused
    return f" for {first} and {len(others)} more" if others else f" for {first}"


def smtp_channel(url: str) -> SmtpChannel:
    """Return the channel of an `smtp:` or `smtps:` URL; connect to nothing.

    Raises:
      UsageError: the URL has another form.
      FraudError: a template cannot be read.
    """
    server = server_of(url, FORM)
    where = f"--alert {server.scheme}://{server.shown}"
    if server.path not in ("", "/") or server.fragment:
        raise UsageError(
            f"{where}: write the options after a question mark: {FORM}", Code.CHANNEL_URL
        )
    if server.password is not None:
        raise UsageError(
            f"{where}: other users can read a password on the command line; "
            "set BEAM_FRAUD_SMTP_PASSWORD, or give password_file=FILE",
            Code.SECRET_EXPOSED,
        )
    options = parse_options(where, server.query, (*_OPTIONS, *_TEMPLATES))
    port = server.port or _PORTS[server.scheme]
    user = None if server.user is None else unquote(server.user)
    sender = _sender(options)
    recipients = _addresses(options, "to")
    to = ",".join(sorted(address.addr_spec for address in recipients))
    login = "" if user is None else f"{quote(user, safe='@+')}@"
    host = f"[{server.host}]" if ":" in server.host else server.host
    return SmtpChannel(
        name=f"{server.scheme}://{login}{host}:{port}/?to={quote(to, safe='@,+')}",
        policy=options.policy(_POLICY),
        server=SmtpServer(
            server.host,
            port,
            _security(options, server.scheme, server.host),
            user,
            options.ca_file(),
        ),
        form=_form(options, sender, recipients),
        secrets=dict(options.values),
    )


def _form(options: ChannelOptions, sender: Address, recipients: tuple[Address, ...]) -> LetterForm:
    fields = options.fields()
    text, marked_up = options.get("template"), options.get("html_template")
    if marked_up is not None and text is None:
        raise UsageError(
            f"{options.where}: html_template: give template too, for the plain text",
            Code.CHANNEL_URL,
        )
    return LetterForm(
        sender,
        recipients,
        fields,
        None if text is None else read_template(options.where, text, fields),
        None if marked_up is None else read_template(options.where, marked_up, fields, html=True),
    )


def _security(options: ChannelOptions, scheme: str, host: str) -> str:
    if scheme == "smtps":
        if options.get("starttls") is not None:
            raise UsageError(
                f"{options.where}: starttls works with smtp:, not with smtps:",
                Code.CHANNEL_INSECURE,
            )
        return "tls"
    if options.yes("starttls", default=True):
        return "starttls"
    if not is_loopback(host):
        raise UsageError(
            f"{options.where}: starttls=no sends alerts unencrypted, which is allowed to this "
            "machine only; leave starttls=no out",
            Code.CHANNEL_INSECURE,
        )
    return "plain"


def _sender(options: ChannelOptions) -> Address:
    addresses = _addresses(options, "from")
    if len(addresses) != 1:
        raise UsageError(f"{options.where}: from: give one address", Code.CHANNEL_URL)
    return addresses[0]


def _addresses(options: ChannelOptions, name: str) -> tuple[Address, ...]:
    text = options.get(name)
    if text is None:
        raise UsageError(f"{options.where}: {name} is missing, write {FORM}", Code.CHANNEL_URL)
    try:
        addresses = [Address(display, addr_spec=spec) for display, spec in getaddresses([text])]
    except (MessageError, ValueError, IndexError):
        addresses = []
    ascii_only = all(address.addr_spec.isascii() for address in addresses)
    if (
        not text.isprintable()
        or not addresses
        or not ascii_only
        or not all(a.username and a.domain for a in addresses)
    ):
        raise options.invalid(name, text, "addresses such as fraud@bank.example, with commas")
    return tuple({address.addr_spec: address for address in addresses}.values())

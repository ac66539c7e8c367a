"""Parse the URL of e-mail: `smtp://USER@HOST:587/?from=ADDRESS&to=ADDRESS,ADDRESS`."""

from __future__ import annotations

from email.errors import MessageError
from email.headerregistry import Address
from email.utils import getaddresses
from urllib.parse import quote, unquote

from beam_fraud.alerts.channels.options import ChannelOptions, parse_options
from beam_fraud.alerts.channels.server import is_loopback, server_of
from beam_fraud.alerts.channels.smtp import LetterForm, SmtpChannel
from beam_fraud.alerts.channels.smtp_session import SmtpServer
from beam_fraud.alerts.policy import SHOWN_IN_DIGEST, Policy, Rate
from beam_fraud.alerts.template import read_template
from beam_fraud.errors import Code, UsageError

FORM = "smtp://USER@HOST:587/?from=ADDRESS&to=ADDRESS"
_PORTS = {"smtp": 587, "smtps": 465}
_OPTIONS = ("from", "to", "starttls", "cafile", "password_file", "password_env")
_TEMPLATES = ("template", "html_template")
#: For people: one message per account and five minutes, and at most one message per minute.
_POLICY = Policy(group=300.0, most=50, rate=Rate(60, 3600.0), digest=SHOWN_IN_DIGEST)


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

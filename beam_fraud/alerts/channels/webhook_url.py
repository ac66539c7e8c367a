"""Parse URLs of HTTP receivers: the receiver's URL, with the channel's options after `#`."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit, urlunsplit

from beam_fraud.alerts.channels.options import ChannelOptions, parse_options
from beam_fraud.alerts.channels.server import UrlServer, is_loopback, server_of
from beam_fraud.alerts.channels.slack import MOST_ALERTS, SlackChannel, escaped
from beam_fraud.alerts.channels.webhook import WebhookChannel
from beam_fraud.alerts.policy import SHOWN_IN_DIGEST, Policy, Rate
from beam_fraud.alerts.template import read_template
from beam_fraud.errors import Code, UsageError

FORM = "https://HOST/PATH"
SLACK_FORM = "slack://hooks.slack.com/services/..."
#: For programs: send each alert at once.
_WEBHOOK_POLICY = Policy(most=1)
#: For people: grouped as e-mail is.
_SLACK_POLICY = Policy(group=300.0, most=MOST_ALERTS, rate=Rate(60, 3600.0), digest=SHOWN_IN_DIGEST)


def webhook_channel(url: str) -> WebhookChannel:
    """Return the channel of an `https:` or `http:` URL; connect to nothing.

    Raises:
      UsageError: the URL has another form, or sends alerts unencrypted.
    """
    server = server_of(url, FORM)
    name = _name(server.scheme, server, url)
    options = parse_options(
        f"--alert {name}", server.fragment, ("plain", "cafile", "secret_file", "secret_env")
    )
    _refuse_login(server, options)
    _refuse_unencrypted(server.scheme, server, options)
    return WebhookChannel(
        name=name,
        policy=options.policy(_WEBHOOK_POLICY),
        url=_without_fragment(url),
        fields=options.fields(),
        ca_file=options.ca_file(),
        secrets=dict(options.values),
    )


def slack_channel(url: str) -> SlackChannel:
    """Return the channel of a `slack:` or `slack+http:` URL; connect to nothing.

    Raises:
      UsageError: the URL has another form, or sends alerts unencrypted.
      FraudError: a template cannot be read.
    """
    server = server_of(url, SLACK_FORM)
    name = _name(server.scheme, server, url)
    options = parse_options(f"--alert {name}", server.fragment, ("plain", "cafile", "template"))
    _refuse_login(server, options)
    scheme = "http" if server.scheme == "slack+http" else "https"
    _refuse_unencrypted(scheme, server, options)
    fields, template = options.fields(), options.get("template")
    return SlackChannel(
        name=name,
        policy=options.policy(_SLACK_POLICY, MOST_ALERTS),
        url=f"{scheme}:{_without_fragment(url).partition(':')[2]}",
        fields=fields,
        ca_file=options.ca_file(),
        template=None
        if template is None
        else read_template(options.where, template, fields, finalize=escaped),
    )


def _name(scheme: str, server: UrlServer, url: str) -> str:
    """Return a name without path and query, which often contain a token."""
    whole = hashlib.sha256(_without_fragment(url).encode()).hexdigest()
    return f"{scheme}://{server.address}/***{whole[:12]}"


def _without_fragment(url: str) -> str:
    return urlunsplit(urlsplit(url)._replace(fragment=""))


def _refuse_login(server: UrlServer, options: ChannelOptions) -> None:
    if server.user is not None:
        raise UsageError(
            f"{options.where}: other users can read a login in the URL; leave it out",
            Code.SECRET_EXPOSED,
        )


def _refuse_unencrypted(scheme: str, server: UrlServer, options: ChannelOptions) -> None:
    allowed = options.yes("plain", default=False)
    if scheme == "http" and not is_loopback(server.host) and not allowed:
        raise UsageError(
            f"{options.where}: http: sends alerts unencrypted; write https:, or #plain=yes after "
            "the URL",
            Code.CHANNEL_INSECURE,
        )

"""Parse a channel: `--alert URL`, with pseudonyms if wanted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.channels.console import ConsoleChannel
from beam_fraud.alerts.channels.file import FileChannel
from beam_fraud.alerts.channels.options import parse_options
from beam_fraud.alerts.message import Message
from beam_fraud.alerts.policy import AS_THEY_COME, BATCH_IN_ONE, Policy
from beam_fraud.alerts.pseudonym import Pseudonyms
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.storage.urls import local_path, split_scheme
from beam_fraud.wording import printable

_FORMS = {
    "console": "console:",
    "file": "file:FILE",
    "smtp": "smtp://USER@HOST:587/?from=ADDRESS&to=ADDRESS",
    "smtps": "smtps://USER@HOST/?from=ADDRESS&to=ADDRESS",
    "https": "https://HOST/PATH",
    "http": "http://127.0.0.1:PORT/PATH",
    "slack": "slack://hooks.slack.com/services/...",
    "slack+http": "slack+http://127.0.0.1:PORT/PATH",
    "kafka": "kafka://HOST:PORT/TOPIC",
    "env": "env:NAME",
}
#: Schemes that an environment variable may hold.
_DIRECT = {scheme: form for scheme, form in _FORMS.items() if scheme != "env"}


def parse_channels(
    urls: Sequence[str], console: TextIO, *, pseudonymise: bool
) -> tuple[Channel, ...]:
    """Return the channels that URLs name, without opening them.

    Args:
      urls: each as of `parse_channel`.
      console: the stream that `console:` writes to.
      pseudonymise: whether ids are replaced by hashes keyed by `BEAM_FRAUD_PSEUDONYM_KEY`.

    Raises:
      UsageError: a URL is invalid, or the key is missing.
      FraudError: as of `parse_channel`.
    """
    pseudonyms = Pseudonyms.from_environment() if pseudonymise else None
    return tuple(parse_channel(url, console, pseudonyms=pseudonyms) for url in urls)


def parse_channel(url: str, console: TextIO, *, pseudonyms: Pseudonyms | None = None) -> Channel:
    """Return the channel that `url` names, without opening it.

    Args:
      url: in one of the forms of `docs/alerts.md`; `env:NAME` reads the URL from an environment
        variable, for URLs that are secrets themselves.
      console: the stream that `console:` writes to.
      pseudonyms: pseudonyms for the ids in all messages, or None.

    Raises:
      UsageError: the scheme is unknown, or the URL has another form.
      FraudError: a template cannot be read, or a package that the channel needs is not installed.
    """
    channel = _channel(url, console)
    return channel if pseudonyms is None else PseudonymisedChannel(channel, pseudonyms)


def _channel(url: str, console: TextIO) -> Channel:
    scheme, rest = split_scheme("--alert", url, _FORMS)
    if scheme == "env":
        url = os.environ.get(rest, "")
        where = f"--alert env:{printable(rest, 100)}"
        if not url:
            raise FraudError(f"{where}: the variable is not set", Code.VARIABLE_UNSET)
        scheme, rest = split_scheme(where, url, _DIRECT)
    # Import a channel's packages only for its use: imports are slow, and Kafka is an extra.
    if scheme in ("smtp", "smtps"):
        from beam_fraud.alerts.channels.smtp import smtp_channel

        return smtp_channel(url)
    if scheme in ("http", "https"):
        from beam_fraud.alerts.channels.webhook import webhook_channel

        return webhook_channel(url)
    if scheme in ("slack", "slack+http"):
        from beam_fraud.alerts.channels.slack import slack_channel

        return slack_channel(url)
    if scheme == "kafka":
        from beam_fraud.alerts.channels.topic import topic_channel

        return topic_channel(rest)
    place, _, query = rest.partition("?")
    options = parse_options(f"--alert {scheme}", query, ())
    fields = options.fields()
    if scheme == "file":
        path = local_path("--alert", place, _FORMS[scheme])
        return FileChannel(path, options.policy(AS_THEY_COME), fields)
    if place:
        raise UsageError(
            f"--alert: write {_FORMS[scheme]} without text after the colon", Code.CHANNEL_URL
        )
    return ConsoleChannel(console, options.policy(BATCH_IN_ONE), fields)


@dataclass(frozen=True)
class PseudonymisedChannel:
    """A wrapper of a channel, with the same name: alerts in the outbox stay its own."""

    #: The channel that sends.
    inner: Channel
    pseudonyms: Pseudonyms

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def policy(self) -> Policy:
        return self.inner.policy

    @property
    def disk(self) -> Path | None:
        """The file of the wrapped channel."""
        return self.inner.disk

    def check(self) -> None:
        self.inner.check()

    def send(self, message: Message) -> None:
        """Send the message with pseudonyms; raise the errors of the wrapped channel."""
        alerts = tuple(self.pseudonyms.alert(alert) for alert in message.alerts)
        event = message.event and self.pseudonyms.event(message.event)
        self.inner.send(replace(message, alerts=alerts, event=event))

    def close(self) -> None:
        self.inner.close()

    def describe(self) -> str:
        return self.inner.describe()

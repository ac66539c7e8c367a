"""A channel that replaces ids by pseudonyms before it sends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.message import Message
from beam_fraud.alerts.policy import Policy
from beam_fraud.alerts.pseudonym import Pseudonyms


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
        self.inner.send(replace(message, alerts=alerts))

    def close(self) -> None:
        self.inner.close()

    def describe(self) -> str:
        return self.inner.describe()

"""A channel that is told pseudonyms in the place of ids."""

from __future__ import annotations

from dataclasses import dataclass, replace

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.message import Message
from beam_fraud.alerts.policy import Policy
from beam_fraud.alerts.pseudonym import Pseudonyms


@dataclass(frozen=True)
class PseudonymisedChannel:
    """Another channel under its own name, so that its rows in the outbox stay its own."""

    #: What is sent through.
    inner: Channel
    pseudonyms: Pseudonyms

    @property
    def name(self) -> str:
        """As of the channel within."""
        return self.inner.name

    @property
    def policy(self) -> Policy:
        """As of the channel within."""
        return self.inner.policy

    def check(self) -> None:
        """As of the channel within."""
        self.inner.check()

    def send(self, message: Message) -> None:
        """Send the message with pseudonyms; raises what the channel within does."""
        alerts = tuple(self.pseudonyms.alert(alert) for alert in message.alerts)
        self.inner.send(replace(message, alerts=alerts))

    def close(self) -> None:
        """As of the channel within."""
        self.inner.close()

    def describe(self) -> str:
        """As of the channel within."""
        return self.inner.describe()

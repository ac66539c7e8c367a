"""What a way to tell people of alerts does, whatever it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from beam_fraud.alert import Alert


class Channel(Protocol):
    """A way to tell people."""

    @property
    def name(self) -> str:
        """What the channel is known by in the outbox: stable between runs, without secrets."""

    def check(self) -> None:
        """See before the launch that alerts can go out; sends none.

        Raises:
          FraudError: they cannot, in one line that says why.
        """

    def send(self, alerts: Sequence[Alert]) -> None:
        """Tell of `alerts`, in their order.

        Raises:
          FraudError: not all of them went out; all of them will be tried again.
        """

    def describe(self) -> str:
        """The channel, for messages; secrets are masked."""

"""How a channel is doing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ChannelState:
    """What has become of its alerts since the start, and whether it works."""

    #: Alerts sent.
    sent: int = 0
    #: Those of them that digests stood for.
    digested: int = 0
    #: Alerts of messages that were given up.
    given_up: int = 0
    #: Why it failed the last time, or None if it did not.
    error: str | None = None
    #: Whether it has failed so often that it is tried now and then only.
    open: bool = False
    #: Whether another process sends its alerts.
    elsewhere: bool = False

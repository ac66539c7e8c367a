"""Grouping of a channel's alerts into messages, and the limit on messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Rate:
    """A limit on messages."""

    #: Maximum of messages in any period of `seconds`.
    messages: int
    #: Length of the period in seconds.
    seconds: float


@dataclass(frozen=True)
class Policy:
    """Rules for grouping pending alerts into messages, and the limits on messages."""

    #: Span in seconds that groups an account's alerts: send the first at once, the others together
    #: when the span ends. None sends every alert at once.
    group: float | None = None
    #: Maximum of alerts in a message.
    most: int = 500
    #: Limit on messages: the last message allowed is a digest of all other alerts. None: no limit.
    rate: Rate | None = None
    #: Maximum of alerts of a batch in one message; a larger batch becomes a digest of the highest
    #: scores. None treats a batch as a stream.
    digest: int | None = None


#: Policy that sends alerts at once.
AS_THEY_COME = Policy()
#: Alerts that a digest shows to people.
SHOWN_IN_DIGEST = 20
#: Policy that sends alerts at once, but a batch in one message.
BATCH_IN_ONE = Policy(digest=SHOWN_IN_DIGEST)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """The clock by which alerts are grouped and retried; tests supply their own."""

    #: The current time, UTC, for the database.
    now: Callable[[], datetime] = _now
    #: Monotonic seconds, for waits.
    elapsed: Callable[[], float] = time.monotonic

"""How alerts are put into the messages of a channel, and how many it may get."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Rate:
    """A bound on messages."""

    #: So many messages,
    messages: int
    #: in any so many seconds.
    seconds: float


@dataclass(frozen=True)
class Policy:
    """What of the alerts that wait goes into one message, and when."""

    #: Alerts of one account within so many seconds go into one message: the first goes at once,
    #: those that follow go together when the time is over. None: alerts go as they come, whoever's.
    group: float | None = None
    #: Alerts in a message at most.
    most: int = 500
    #: Messages at most: the last that may go is a digest of all the rest. None: no bound.
    rate: Rate | None = None
    #: Alerts of a batch go in one message: all of so many, of more a digest of those with the
    #: highest scores. None: as those of a stream.
    digest: int | None = None


#: Alerts go as they come.
AS_THEY_COME = Policy()
#: Alerts of a digest that a person is shown.
SHOWN_IN_DIGEST = 20
#: Alerts go as they come, but those of a batch in one message.
BATCH_IN_ONE = Policy(digest=SHOWN_IN_DIGEST)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """What time it is: a test has one of its own."""

    #: The moment, UTC: what the database is told.
    now: Callable[[], datetime] = _now
    #: Seconds on a clock that nobody sets: how long to wait.
    elapsed: Callable[[], float] = time.monotonic

"""The time by which alerts are put into messages and tried again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """What time it is: a test has one of its own."""

    #: The moment, UTC: what the database is told.
    now: Callable[[], datetime] = _now
    #: Seconds on a clock that nobody sets: how long to wait.
    elapsed: Callable[[], float] = time.monotonic

"""What a command is doing, said by the code that does it and shown by whoever runs it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True)
class Activity:
    """Something that may take long."""

    #: What is done and where, as in `fitting forest on 227,845 rows`.
    what: str
    #: When it began, on a clock that nobody sets.
    since: float
    #: Says how far it is, or ""; called from another thread.
    how_far: Callable[[], str]


#: What goes on in this process, the innermost last.
_current: list[Activity] = []
#: Set while nothing does.
_over = threading.Event()
_over.set()
#: Held by who draws on the terminal: what comes after an activity may be printed there.
_drawing = threading.Lock()


@contextmanager
def doing(what: str, how_far: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Say what the body does.

    Example:
      >>> with doing("trial 3 of 20"), doing("reading", lambda: "3 of 5 files"):
      ...     [current().what, current().how_far()]
      ['trial 3 of 20, reading', '3 of 5 files']
    """
    activity = Activity(what, monotonic(), how_far)
    _current.append(activity)
    _over.clear()
    try:
        yield
    finally:
        _current.remove(activity)
        if not _current:
            _over.set()
            with _drawing:
                pass


def current() -> Activity | None:
    """What goes on now, with what that is part of; None if nothing was said to."""
    now = tuple(_current)
    if not now:
        return None
    return Activity(", ".join(part.what for part in now), now[-1].since, now[-1].how_far)


@contextmanager
def drawing() -> Iterator[Callable[[float], bool]]:
    """While the body draws what goes on, what comes after it waits.

    Yields:
      What waits for so many seconds, or until nothing goes on any more; whether that is so.
    """
    with _drawing:
        yield _over.wait

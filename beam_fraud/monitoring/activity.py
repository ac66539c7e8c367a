"""The long steps of a command: the code that runs one names it, and the terminal shows it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic


@dataclass(frozen=True)
class Activity:
    """A step of a command that may take long."""

    #: The step and its object, as in `fitting forest on 227,845 rows`.
    what: str
    #: Start, in seconds of `time.monotonic`.
    since: float
    #: Returns the progress as text, or ""; called from another thread.
    how_far: Callable[[], str]
    #: Returns the part that is done, from 0 to 1, or None; called from another thread.
    share: Callable[[], float | None] = lambda: None


#: The activities of this process, the innermost last.
_current: list[Activity] = []
#: Set while there is none.
_over = threading.Event()
_over.set()
#: Held while the terminal is drawn on: the code after an activity may print there.
_drawing = threading.Lock()


@contextmanager
def doing(
    what: str,
    how_far: Callable[[], str] = lambda: "",
    share: Callable[[], float | None] = lambda: None,
) -> Iterator[None]:
    """Record an activity while the body runs.

    When the outermost one ends, wait until nothing is drawn any more.

    Args:
      what: the step and its object.
      how_far: returns the progress as text; called from another thread.
      share: returns the part that is done, from 0 to 1, or None; called from another thread.

    Example:
      >>> with doing("trial 3 of 20"), doing("reading", lambda: "3 of 5 files"):
      ...     [current().what, current().how_far()]
      ['trial 3 of 20, reading', '3 of 5 files']
    """
    activity = Activity(what, monotonic(), how_far, share)
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
    """Return the innermost activity, with the names of those around it; None if there is none."""
    now = tuple(_current)
    if not now:
        return None
    return replace(now[-1], what=", ".join(part.what for part in now))


@contextmanager
def drawing() -> Iterator[Callable[[float], bool]]:
    """Block the code after the activities while the body draws on the terminal.

    Yields:
      A function that waits until no activity is left, at most the given number of seconds, and
      returns whether none is left.
    """
    with _drawing:
        yield _over.wait

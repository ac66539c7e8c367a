"""Show progress on standard error: a redrawn line on a terminal, otherwise log lines."""

from __future__ import annotations

import io
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING

from beam_fraud.monitoring import activity

if TYPE_CHECKING:
    from rich.console import RenderableType

logger = logging.getLogger(__name__)
#: Seconds between two updates.
_LOOK_EVERY = 0.25
#: Columns of a bar.
_BAR_WIDTH = 20


class Line:
    """A line of text that changes; called from another thread than the command's."""

    #: Seconds for which there has been something to show, before a terminal shows it.
    after = 1.0

    def look(self) -> bool:
        """Read what is new; return whether there is anything to show."""
        return True

    def text(self, width: int | None) -> str:
        """Return the line as of the last look, in `width` columns if possible; None: any number."""
        raise NotImplementedError

    def share(self) -> float | None:
        """Return the part that is done, from 0 to 1, which a terminal draws as a bar."""
        return None

    def drawing(self, done: threading.Event) -> AbstractContextManager[Callable[[float], bool]]:
        """Hold what may not happen while the terminal is drawn on.

        Yields:
          A function that waits at most so many seconds and returns whether drawing must end.
        """
        return nullcontext(done.wait)


@contextmanager
def shown(line: Line, *, line_every: float = 10.0) -> Iterator[None]:
    """Show a line while the body runs.

    Args:
      line: what is shown.
      line_every: seconds between log lines, where standard error is no terminal.
    """
    done = threading.Event()
    target = _draw if sys.stderr.isatty() else _log
    watcher = threading.Thread(target=target, args=(line, done, line_every), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _log(line: Line, done: threading.Event, line_every: float) -> None:
    quiet_since = time.monotonic()
    while not done.wait(min(_LOOK_EVERY, line_every)):
        now = time.monotonic()
        if not line.look():
            quiet_since = now
        elif now - quiet_since >= line_every:
            logger.info("%s", line.text(None))
            quiet_since = now


def _draw(line: Line, done: threading.Event, line_every: float) -> None:
    begun: float | None = None
    while not done.is_set():
        if not line.look():
            begun = None
        elif begun is None and line.after:
            begun = time.monotonic()
        elif begun is None or time.monotonic() - begun >= line.after:
            _draw_while_any(line, done)
            begun = None
        done.wait(_LOOK_EVERY)


def _draw_while_any(line: Line, done: threading.Event) -> None:
    from rich.console import Console
    from rich.live import Live

    # Keep standard output: rich would redirect it through this console to standard error.
    # Only the line itself is cut to the terminal: alerts and messages stay whole, one line each.
    console = Console(stderr=True, soft_wrap=True)
    with (
        line.drawing(done) as over,
        Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False) as live,
    ):
        while not over(0):
            live.update(_drawn(line, console.width), refresh=True)
            if over(_LOOK_EVERY) or not line.look():
                break


def _drawn(line: Line, width: int) -> RenderableType:
    from rich.columns import Columns
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    share = line.share()
    room = width if share is None else width - _BAR_WIDTH - 1
    text = Text(line.text(room), no_wrap=True, overflow="ellipsis")
    if share is None:
        return text
    return Columns([ProgressBar(total=1.0, completed=min(share, 1.0), width=_BAR_WIDTH), text])


class _Activities(Line):
    """The activities of this process (`activity.doing`)."""

    _now: activity.Activity

    def look(self) -> bool:
        now = activity.current()
        if now is not None:
            self._now = now
        return now is not None

    def text(self, width: int | None) -> str:
        return activity_line(self._now, time.monotonic() - self._now.since)

    def share(self) -> float | None:
        return self._now.share()

    def drawing(self, done: threading.Event) -> AbstractContextManager[Callable[[float], bool]]:
        return activity.drawing()


def activities_shown(*, line_every: float = 10.0) -> AbstractContextManager[None]:
    """Show the activities of the body (`activity.doing`) and their duration, but no short ones.

    Args:
      line_every: seconds between log lines.
    """
    return shown(_Activities(), line_every=line_every)


def progress_of(
    total: int | None, read: Callable[[], int], what: str
) -> AbstractContextManager[None]:
    """Record an activity that counts rows: done and left, rate and remaining time.

    Args:
      total: rows to do, None if unknown.
      read: returns the rows done so far; called from another thread.
      what: the activity, as in `scoring`.
    """
    start = time.monotonic()
    return activity.doing(
        what,
        lambda: status_line(read(), total, time.monotonic() - start),
        lambda: read() / total if total else None,
    )


def activity_line(now: activity.Activity, seconds: float) -> str:
    """Return the activity, its progress and its duration.

    >>> from beam_fraud.monitoring.activity import Activity
    >>> activity_line(Activity("drawing 1,000 resamples", 0.0, lambda: "420 done"), 12.3)
    'drawing 1,000 resamples: 420 done, 0:00:12 so far'
    """
    how_far = now.how_far()
    took = f"{timedelta(seconds=int(seconds))} so far"
    return f"{now.what}: {how_far}, {took}" if how_far else f"{now.what}: {took}"


def status_line(rows: int, total: int | None, seconds: float) -> str:
    """Return rows done and left, and the rate.

    >>> status_line(50_000, 200_000, 10.0)
    '50,000 rows done, 150,000 left, 5,000 rows/s, 0:00:30 to go'
    >>> status_line(50_000, None, 10.0)
    '50,000 rows done, 5,000 rows/s'
    """
    rate = rows / seconds if seconds else 0.0
    if total is None:
        return f"{rows:,} rows done, {rate:,.0f} rows/s"
    left = max(total - rows, 0)
    text = f"{rows:,} rows done, {left:,} left, {rate:,.0f} rows/s"
    return f"{text}, {timedelta(seconds=round(left / rate))} to go" if rate else text


class AboveLine(io.TextIOBase):
    """Writes to what standard error is at that moment, so that text goes above the line drawn."""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute in the base class
        """The encoding of standard error."""
        return sys.stderr.encoding or "utf-8"

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write whole lines."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Flush standard error."""
        sys.stderr.flush()

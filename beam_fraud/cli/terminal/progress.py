"""Show progress: a redrawn line on a terminal, otherwise a log line now and then."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from beam_fraud.cli.terminal.beside import beside
from beam_fraud.monitoring import activity

logger = logging.getLogger(__name__)
#: Seconds between two updates, and before a terminal shows an activity.
_LOOK_EVERY, _SHOWN_AFTER = 0.25, 1.0


@contextmanager
def progress_of(
    total: int | None, read: Callable[[], int], description: str, *, line_every: float = 10.0
) -> Iterator[None]:
    """Show rows done and left, rate and remaining time while the body runs.

    Output goes to standard error: a bar on a terminal, otherwise a log line now and then.

    Args:
      total: rows to do, None if unknown.
      read: returns the rows done; called from another thread.
      description: name of the step, such as `scoring`.
      line_every: seconds between log lines.
    """
    start = time.monotonic()

    def status() -> tuple[int, str]:
        rows = read()
        return rows, status_line(rows, total, time.monotonic() - start)

    def watch(done: threading.Event) -> None:
        if sys.stderr.isatty():
            _draw_bar(status, total, description, done)
        else:
            _write_lines(status, description, line_every, done)

    with beside(watch):
        yield


@contextmanager
def activities_shown(*, line_every: float = 10.0) -> Iterator[None]:
    """Show the activities of the body (`activity.doing`) and their duration.

    Output goes to standard error: a redrawn line on a terminal, otherwise a log line now and then.
    Short activities are not shown.

    Args:
      line_every: seconds between log lines.
    """

    def watch(done: threading.Event) -> None:
        if sys.stderr.isatty():
            _draw_activities(done)
        else:
            _write_activities(line_every, done)

    with beside(watch):
        yield


def activity_line(now: activity.Activity, seconds: float) -> str:
    """Return the activity, its progress and its duration.

    >>> from beam_fraud.monitoring.activity import Activity
    >>> activity_line(Activity("drawing 1,000 resamples", 0.0, lambda: "420 done"), 12.3)
    'drawing 1,000 resamples: 420 done, 0:00:12 so far'
    """
    how_far = now.how_far()
    took = f"{timedelta(seconds=int(seconds))} so far"
    return f"{now.what}: {how_far}, {took}" if how_far else f"{now.what}: {took}"


def _write_activities(line_every: float, done: threading.Event) -> None:
    quiet_since = time.monotonic()
    while not done.wait(min(_LOOK_EVERY, line_every)):
        now, at = activity.current(), time.monotonic()
        if now is None:
            quiet_since = at
        elif at - quiet_since >= line_every:
            logger.info("%s", activity_line(now, at - now.since))
            quiet_since = at


def _draw_activities(done: threading.Event) -> None:
    while not done.wait(_LOOK_EVERY):
        now = activity.current()
        if now is not None and time.monotonic() - now.since >= _SHOWN_AFTER:
            _draw_while_any()


def _draw_while_any() -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    with (
        activity.drawing() as over,
        Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False) as live,
    ):
        while (now := activity.current()) is not None:
            text = activity_line(now, time.monotonic() - now.since)
            live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
            if over(_LOOK_EVERY):
                break


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


def _write_lines(
    status: Callable[[], tuple[int, str]],
    description: str,
    line_every: float,
    done: threading.Event,
) -> None:
    while not done.wait(line_every):
        logger.info("%s: %s", description, status()[1])


def _draw_bar(
    status: Callable[[], tuple[int, str]],
    total: int | None,
    description: str,
    done: threading.Event,
) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[status]}"),
    )
    # Keep standard output: rich would redirect it through this console to standard error.
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(description, total=total, status="")
        while not done.wait(0.2):
            rows, text = status()
            progress.update(task, completed=rows, status=text)

"""How far a run is: a bar on a terminal, a quiet line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from beam_fraud.commandline.beside import beside

logger = logging.getLogger(__name__)


@contextmanager
def progress_of(
    total: int | None, read: Callable[[], int], description: str, *, line_every: float = 10.0
) -> Iterator[None]:
    """Show, while the body runs, how many rows are done and left, the rate and the time to go.

    All of it goes to standard error: a bar if that is a terminal, else a log line now and then.

    Args:
      total: rows to do, None if nobody knows.
      read: tells the rows done so far; called from another thread.
      description: what is being done, as in `scoring`.
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


def status_line(rows: int, total: int | None, seconds: float) -> str:
    """What is done and left, and how fast.

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
    # Standard output stays what it is: rich would send it through this console, to standard error.
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(description, total=total, status="")
        while not done.wait(0.2):
            rows, text = status()
            progress.update(task, completed=rows, status=text)

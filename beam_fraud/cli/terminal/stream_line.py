"""Show the status of a stream: a redrawn line on a terminal, otherwise log lines."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from beam_fraud.cli.terminal.beside import beside
from beam_fraud.cli.terminal.stream_status import stream_status
from beam_fraud.errors import FraudError
from beam_fraud.monitoring.snapshot import AlertCounts, ReadAlerts, Snapshot, no_alerts
from beam_fraud.monitoring.trend import Trend

logger = logging.getLogger(__name__)
_SECONDS_BETWEEN_LOOKS = 0.25
#: Seconds between counts of alerts, which query a database.
_SECONDS_BETWEEN_COUNTS_OF_ALERTS = 2.0


@contextmanager
def live_line(
    read: Callable[[], Snapshot],
    alerts: ReadAlerts = no_alerts,
    phase: Callable[[], str] = str,
    *,
    line_every: float = 10.0,
) -> Iterator[None]:
    """Show the status of a stream on standard error while the body runs.

    Args:
      read: returns the status of the stream; called from another thread.
      alerts: returns the counts of alerts; called from that thread, too.
      phase: returns the runner's phase before the stream reads, or "".
      line_every: seconds between log lines without a terminal.
    """
    status = _Status(read, alerts, phase)

    def watch(done: threading.Event) -> None:
        if sys.stderr.isatty():
            _draw_line(status, done)
        else:
            _write_lines(status, line_every, done)

    with beside(watch):
        yield


class _Status:
    def __init__(
        self, read: Callable[[], Snapshot], alerts: ReadAlerts, phase: Callable[[], str]
    ) -> None:
        self._read = read
        self._phase = phase
        self._alerts = alerts
        self._counts: Mapping[str, AlertCounts] = {}
        self._counted_at: float | None = None
        self._trend = Trend()

    def look(self) -> Snapshot:
        """Read the newest snapshot."""
        snapshot = self._read()
        self._trend.add(time.monotonic(), snapshot)
        return snapshot

    def text(self, width: int | None = None) -> str:
        """Return the line, if possible within `width` columns."""
        snapshot = self.look()
        if phase := self._phase():
            return phase
        self._count_alerts()
        return stream_status(
            snapshot, self._trend.rate, self._trend.latency, self._counts, width=width
        )

    def _count_alerts(self) -> None:
        now = time.monotonic()
        if self._counted_at is None or now - self._counted_at >= _SECONDS_BETWEEN_COUNTS_OF_ALERTS:
            try:
                self._counts = self._alerts()
            except FraudError as error:
                # The sender reports this itself.
                logger.debug("alerts are not counted: %s", error)
            self._counted_at = time.monotonic()


def _write_lines(status: _Status, line_every: float, done: threading.Event) -> None:
    looks = 0
    every = min(_SECONDS_BETWEEN_LOOKS * 4, line_every)
    while not done.wait(every):
        looks += 1
        if looks * every < line_every:
            # The line covers the last seconds, not the time since the last line.
            status.look()
        else:
            logger.info("streaming: %s", status.text())
            looks = 0


def _draw_line(status: _Status, done: threading.Event) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    # Keep standard output: rich would redirect it through this console to standard error.
    console = Console(stderr=True, soft_wrap=True)
    with Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False) as live:
        while True:
            text = Text(status.text(console.width), no_wrap=True, overflow="ellipsis")
            live.update(text, refresh=True)
            if done.wait(_SECONDS_BETWEEN_LOOKS):
                return

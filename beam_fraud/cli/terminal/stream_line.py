"""Show the status of a stream: a redrawn line on a terminal, otherwise log lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from beam_fraud.cli.terminal.progress import Line, shown
from beam_fraud.cli.terminal.stream_status import stream_status
from beam_fraud.errors import FraudError
from beam_fraud.monitoring.snapshot import AlertCounts, ReadAlerts, Snapshot, no_alerts
from beam_fraud.monitoring.trend import Trend

logger = logging.getLogger(__name__)
#: Counting alerts asks a database.
_SECONDS_BETWEEN_COUNTS_OF_ALERTS = 2.0


def live_line(
    read: Callable[[], Snapshot],
    alerts: ReadAlerts = no_alerts,
    phase: Callable[[], str] = str,
    *,
    line_every: float = 10.0,
) -> AbstractContextManager[None]:
    """Show, while the body runs, how a stream is doing; all of it goes to standard error.

    Args:
      read: returns the status of the stream; called from another thread.
      alerts: returns the counts of alerts; called from that thread, too.
      phase: returns the runner's phase before the stream reads, or "".
      line_every: seconds between log lines without a terminal.
    """
    return shown(_Status(read, alerts, phase), line_every=line_every)


class _Status(Line):
    after = 0.0

    def __init__(
        self, read: Callable[[], Snapshot], alerts: ReadAlerts, phase: Callable[[], str]
    ) -> None:
        self._read = read
        self._phase = phase
        self._alerts = alerts
        self._counts: Mapping[str, AlertCounts] = {}
        self._counted_at: float | None = None
        self._trend = Trend()

    def look(self) -> bool:
        self._newest = self._read()
        self._trend.add(time.monotonic(), self._newest)
        return True

    def text(self, width: int | None) -> str:
        title = "streaming: " if width is None else ""
        if phase := self._phase():
            return title + phase
        self._count_alerts()
        rate, latency = self._trend.rate, self._trend.latency
        return title + stream_status(self._newest, rate, latency, self._counts, width=width)

    def _count_alerts(self) -> None:
        now = time.monotonic()
        if self._counted_at is None or now - self._counted_at >= _SECONDS_BETWEEN_COUNTS_OF_ALERTS:
            try:
                self._counts = self._alerts()
            except FraudError as error:
                # The sender reports this itself.
                logger.debug("alerts are not counted: %s", error)
            self._counted_at = time.monotonic()

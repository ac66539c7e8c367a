"""Show the status of a stream as one line: redrawn on a terminal, otherwise logged."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

from beam_fraud.cli.terminal.progress import Line, shown
from beam_fraud.errors import FraudError
from beam_fraud.monitoring.counters import ROWS_DEAD, ROWS_DUPLICATE, ROWS_FLAGGED
from beam_fraud.monitoring.latency import LatencyHistogram, latency_text
from beam_fraud.monitoring.snapshot import (
    AlertCounts,
    ReadAlerts,
    Snapshot,
    no_alerts,
    topic_and_partition,
)

#: Maximum of partitions listed; beyond it, only the one with the largest lag.
_PARTITIONS = 4
#: Seconds of the rate's window.
_RATE_SECONDS = 5.0
#: Seconds of the latencies' window.
_LATENCY_SECONDS = 10.0
logger = logging.getLogger(__name__)
#: Counting alerts asks a database.
_SECONDS_BETWEEN_COUNTS_OF_ALERTS = 2.0


def stream_status(
    now: Snapshot,
    rate: float,
    latency: LatencyHistogram,
    alerts: Mapping[str, AlertCounts] | None = None,
    *,
    width: int | None = None,
) -> str:
    """Return one line: rate, lag, latency, flagged, dead and repeated rows, alerts.

    Zero or unknown values without meaning are left out; if columns do not suffice, numbers get
    shorter and the least important values are dropped.

    Args:
      now: the newest snapshot.
      rate: recent transactions per second.
      latency: recent latencies.
      alerts: counts of alerts by channel.
      width: maximum of columns; None for no limit.

    >>> from beam_fraud.monitoring.snapshot import Position
    >>> counters = {"rows_scored": 2_000_000, "rows_flagged": 1_234, "rows_dead": 5}
    >>> positions = {"tx:0": Position(10, 20, 0.0), "tx:1": Position(20, 2_020, 0.0)}
    >>> latency = LatencyHistogram()
    >>> latency.add(0.012, 100)
    >>> now = Snapshot(counters, positions)
    >>> stream_status(now, 12_345.6, latency)
    '12,346 tx/s, lag 2,010 (0: 10, 1: 2,000), p50 12 ms, p99 12 ms, 1,234 flagged, 5 dead'
    >>> stream_status(now, 12_345.6, latency, width=70)
    '12k tx/s, lag 2k (1: 2k), p50 12 ms, p99 12 ms, 1.2k flagged, 5 dead'
    """
    text = ""
    for parts in _from_long_to_short(now, rate, latency, alerts or {}):
        text = ", ".join(part for part in parts if part)
        if width is None or len(text) <= width:
            break
    return text


def _from_long_to_short(
    now: Snapshot,
    rate: float,
    latency: LatencyHistogram,
    alerts: Mapping[str, AlertCounts],
) -> Iterator[list[str]]:
    for number, partitions in ((_whole, _PARTITIONS), (_short, _PARTITIONS), (_short, 1)):
        rest = [
            *_latencies(latency),
            f"{number(now.count(ROWS_FLAGGED))} flagged",
            _unless_zero(number, now.count(ROWS_DEAD), "dead"),
        ]
        first, alert_counts = f"{number(rate)} tx/s", _alerts(number, alerts)
        repeated = _unless_zero(number, now.count(ROWS_DUPLICATE), "duplicate")
        lag = _lag(number, now, partitions)
        waits = f"{now.awaited} waits for its windows" if now.awaited else ""
        yield [first, lag, *rest, repeated, alert_counts, waits, *_shadows(now)]
        yield [first, lag, *rest, repeated, alert_counts, waits, _in_shadow(now)]
    yield [first, lag, *rest, alert_counts, _in_shadow(now)]
    yield [first, _lag(number, now, 0), *rest, alert_counts]


def _shadows(now: Snapshot) -> Iterator[str]:
    for key, figures in sorted(now.shadows.items()):
        if figures.dropped is not None:
            yield f"{key} dropped"
        elif figures.agreement is not None:
            cost = f"{figures.microseconds:.2g} us a row"
            yield f"{key} agrees in {figures.agreement:.1%}, {cost}"


def _in_shadow(now: Snapshot) -> str:
    dropped = sum(figures.dropped is not None for figures in now.shadows.values())
    text = f"{len(now.shadows)} in shadow" + (f" ({dropped} dropped)" if dropped else "")
    return text if now.shadows else ""


def _whole(rows: float) -> str:
    return f"{rows:,.0f}"


def _short(rows: float) -> str:
    """Format a number in at most four characters, up to a trillion.

    >>> [_short(rows) for rows in (0, 999, 1_000, 9_960, 12_345, 999_999, 1_250_000, 3e9)]
    ['0', '999', '1k', '10k', '12k', '1M', '1.2M', '3B']
    """
    value = float(round(rows))
    for unit in ("", "k", "M", "B"):
        digits = 1 if unit and value < 9.95 else 0
        text = f"{value:.{digits}f}".removesuffix(".0")
        if float(text) < 1000 or unit == "B":
            break
        value /= 1000
    return text + unit


def _unless_zero(number: Callable[[float], str], rows: int, what: str) -> str:
    return f"{number(rows)} {what}" if rows else ""


def _lag(number: Callable[[float], str], now: Snapshot, partitions: int) -> str:
    """Return the total lag, with that of each partition, or of the worst if many."""
    if not now.positions:
        return ""
    total = f"lag {number(now.lag)}"
    named = {topic_and_partition(source): p.lag for source, p in now.positions.items()}
    if not now.lag or len(named) == 1 or not partitions:
        return total
    one_topic = len({topic for topic, _ in named}) == 1
    order = sorted(named, key=lambda name: (name[0], len(name[1]), name[1]))
    if len(named) > partitions:
        order = [max(order, key=named.__getitem__)]
    parts = (f"{_name(*name, one_topic)}: {number(named[name])}" for name in order)
    return f"{total} ({', '.join(parts)})"


def _name(topic: str, partition: str, one_topic: bool) -> str:
    if not partition:
        return topic
    return partition if one_topic else f"{topic}:{partition}"


def _latencies(latency: LatencyHistogram) -> list[str]:
    quantiles = (("p50", latency.quantile(0.5)), ("p99", latency.quantile(0.99)))
    return [f"{name} {latency_text(value)}" for name, value in quantiles if value is not None]


def _alerts(number: Callable[[float], str], alerts: Mapping[str, AlertCounts]) -> str:
    if not alerts:
        return ""
    sent = number(sum(counts.sent for counts in alerts.values()))
    waiting = sum(counts.pending for counts in alerts.values())
    return f"alerts {sent} sent" + (f" {number(waiting)} waiting" if waiting else "")


class Trend:
    """Compare the newest snapshot of a stream with recent ones."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Snapshot]] = deque()

    def add(self, seconds: float, snapshot: Snapshot) -> None:
        """Add a snapshot with a monotonic time."""
        self._seen.append((seconds, snapshot))
        # Keep one snapshot at least as old as the window.
        while len(self._seen) > 1 and seconds - self._seen[1][0] >= _LATENCY_SECONDS:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """Transactions done per second, over the last five seconds; 0 after one snapshot."""
        seconds, now = self._seen[-1]
        before, then = self._back(_RATE_SECONDS)
        return max(now.done - then.done, 0) / (seconds - before) if seconds > before else 0.0

    @property
    def latency(self) -> LatencyHistogram:
        """Latencies of what was scored in the last ten seconds."""
        return self._seen[-1][1].latency.since(self._back(_LATENCY_SECONDS)[1].latency)

    def _back(self, seconds: float) -> tuple[float, Snapshot]:
        """Return the newest snapshot that is at least this old, else the oldest."""
        end = self._seen[-1][0] - seconds
        return next((seen for seen in reversed(self._seen) if seen[0] <= end), self._seen[0])


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

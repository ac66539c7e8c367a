"""Recent throughput and latency of a stream."""

from __future__ import annotations

from collections import deque

from beam_fraud.monitoring.latency import LatencyHistogram
from beam_fraud.monitoring.snapshot import Snapshot

#: Seconds of the rate's window.
_RATE_SECONDS = 5.0
#: Seconds of the latencies' window.
_LATENCY_SECONDS = 10.0


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

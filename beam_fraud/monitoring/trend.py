"""How fast a stream is of late."""

from __future__ import annotations

from collections import deque

from beam_fraud.monitoring.latency import LatencyHistogram
from beam_fraud.monitoring.snapshot import Snapshot

#: Seconds that the rate looks back.
_RATE_SECONDS = 5.0
#: Seconds that latencies look back.
_LATENCY_SECONDS = 10.0


class Trend:
    """Compares the newest snapshot of a stream with those of the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Snapshot]] = deque()

    def add(self, seconds: float, snapshot: Snapshot) -> None:
        """Take the next snapshot, at a time of any clock that only goes forward."""
        self._seen.append((seconds, snapshot))
        # One that is as old as is looked back, or older, stays to compare with.
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

"""Latency histograms with fixed buckets."""

from __future__ import annotations

import math
from bisect import bisect_left

import msgspec

#: Upper bounds of the buckets in seconds, eight per decade from 1 ms on; one more bucket holds
#: longer latencies.
BOUNDS = tuple(float(f"{10 ** (step / 8 - 3):.3g}") for step in range(48))


class LatencyHistogram(msgspec.Struct):
    """Latencies of many rows in a few hundred bytes.

    >>> histogram = LatencyHistogram()
    >>> histogram.add(0.012, rows=99)
    >>> histogram.add(3.0, rows=1)
    >>> round(histogram.quantile(0.5), 3), round(histogram.quantile(0.999), 1)
    (0.012, 2.7)
    """

    #: Rows in each bucket, including the last one above `BOUNDS`.
    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    #: Sum over all rows in seconds.
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Check the number of buckets.

        Raises:
          ValueError: it differs.
        """
        if len(self.counts) != len(BOUNDS) + 1:
            raise ValueError(f"{len(self.counts)} buckets, not {len(BOUNDS) + 1}")

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.counts)

    def add(self, seconds: float, rows: int = 1) -> None:
        """Count rows of a latency; negative ones, of differing clocks, count as zero."""
        seconds = max(seconds, 0.0)
        self.counts[bisect_left(BOUNDS, seconds)] += rows
        self.seconds += seconds * rows

    def merged(self, other: LatencyHistogram) -> LatencyHistogram:
        """Return the rows of both."""
        counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        return LatencyHistogram(counts, self.seconds + other.seconds)

    def since(self, before: LatencyHistogram) -> LatencyHistogram:
        """Return the rows counted since `before`, an earlier state."""
        counts = [max(a - b, 0) for a, b in zip(self.counts, before.counts, strict=True)]
        return LatencyHistogram(counts, max(self.seconds - before.seconds, 0.0))

    def quantile(self, q: float) -> float | None:
        """Return the quantile `q` in seconds.

        Returns:
          Accurate within 16 %; the first bound for all below it, infinity above the last one, None
          without rows.
        """
        rows = self.rows
        if not rows:
            return None
        # The smallest number of rows of that share, despite rounding.
        rank = max(math.ceil(q * rows - 1e-9), 1)
        bucket = 0
        while (rank := rank - self.counts[bucket]) > 0:
            bucket += 1
        if bucket == 0:
            return BOUNDS[0]
        return math.inf if bucket == len(BOUNDS) else math.sqrt(BOUNDS[bucket - 1] * BOUNDS[bucket])


def latency_text(seconds: float) -> str:
    """Format a quantile with two digits; it has no more.

    >>> [latency_text(s) for s in (0.001, 0.0237, 0.154, 1.54, 56.2, 365.0, math.inf)]
    ['1 ms', '24 ms', '150 ms', '1.5 s', '56 s', '6 min', '>12 min']
    """
    if math.isinf(seconds):
        return f">{BOUNDS[-1] / 60:.0f} min"
    if seconds >= 120:
        return f"{seconds / 60:.0f} min"
    value, unit = (seconds, "s") if seconds >= 0.995 else (seconds * 1000, "ms")
    return f"{float(f'{value:.2g}'):g} {unit}"

"""How long transactions took, as counts in fixed buckets."""

from __future__ import annotations

import math
from bisect import bisect_left

import msgspec

#: Upper ends of the buckets in seconds, eight to a factor of ten from 1 ms on; one more bucket
#: holds what took longer than the last.
BOUNDS = tuple(float(f"{10 ** (step / 8 - 3):.3g}") for step in range(48))


class LatencyHistogram(msgspec.Struct):
    """Seconds from one moment to another, of many rows, in a few hundred bytes.

    >>> histogram = LatencyHistogram()
    >>> histogram.add(0.012, rows=99)
    >>> histogram.add(3.0, rows=1)
    >>> round(histogram.quantile(0.5), 3), round(histogram.quantile(0.999), 1)
    (0.012, 2.7)
    """

    #: Rows in each bucket: those of `BOUNDS` and the one above.
    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    #: Sum over all rows.
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what was written with other buckets.

        Raises:
          ValueError: there are more or fewer.
        """
        if len(self.counts) != len(BOUNDS) + 1:
            raise ValueError(f"{len(self.counts)} buckets, not {len(BOUNDS) + 1}")

    @property
    def rows(self) -> int:
        """How many rows were counted."""
        return sum(self.counts)

    def add(self, seconds: float, rows: int = 1) -> None:
        """Count rows that took this long; below zero, as of clocks that differ, counts as zero."""
        seconds = max(seconds, 0.0)
        self.counts[bisect_left(BOUNDS, seconds)] += rows
        self.seconds += seconds * rows

    def merged(self, other: LatencyHistogram) -> LatencyHistogram:
        """Return the rows of both."""
        counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        return LatencyHistogram(counts, self.seconds + other.seconds)

    def since(self, before: LatencyHistogram) -> LatencyHistogram:
        """Return the rows that were counted after `before`, an earlier state of this one."""
        counts = [max(a - b, 0) for a, b in zip(self.counts, before.counts, strict=True)]
        return LatencyHistogram(counts, max(self.seconds - before.seconds, 0.0))

    def quantile(self, q: float) -> float | None:
        """Seconds that a share `q` of the rows did not take longer than.

        Returns:
          Up to 16 % more or less than it was; the first bound for all below it, infinity for what
          is above the last one, None if nothing was counted.
        """
        rows = self.rows
        if not rows:
            return None
        # The smallest number of rows that are such a share, whatever floats make of the product.
        rank = max(math.ceil(q * rows - 1e-9), 1)
        bucket = 0
        while (rank := rank - self.counts[bucket]) > 0:
            bucket += 1
        if bucket == 0:
            return BOUNDS[0]
        return math.inf if bucket == len(BOUNDS) else math.sqrt(BOUNDS[bucket - 1] * BOUNDS[bucket])

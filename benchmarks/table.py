"""Figures and ratios, and their table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement
from typing import NamedTuple

from benchmarks.latency import Latency
from benchmarks.measure import Case, Run


@dataclass(frozen=True)
class Figure:
    """The measurement of a case."""

    #: The case.
    name: str
    #: Kind of the model, or None.
    model: str | None
    #: Rows scored, or None.
    rows: int | None
    #: How often it ran.
    runs: int
    #: Wall seconds of the whole processes, the median of the runs.
    seconds: float
    #: The fastest run.
    least_seconds: float
    #: Rows over median seconds, or None.
    rows_per_second: float | None
    #: Millions of bytes in memory at once, the most of all runs.
    peak_mb: float


@dataclass(frozen=True)
class Ratio:
    """A ratio of figures and its bound."""

    #: What is divided by what, and where.
    name: str
    #: The value; a ratio or seconds.
    value: float
    #: What it may be at most, or must be at least; None for what has no bound.
    bound: float | None = None
    #: Whether `bound` is the most, or the least.
    at_most: bool = True
    #: What would be good.
    aim: float | None = None

    @property
    def holds(self) -> bool | None:
        """Return whether the value is within its bound; None without one."""
        if self.bound is None:
            return None
        return self.value <= self.bound if self.at_most else self.value >= self.bound


def figure(case: Case, runs: Sequence[Run]) -> Figure:
    """Summarise the runs of a case."""
    seconds = statistics.median(run.seconds for run in runs)
    return Figure(
        case.name,
        case.model,
        case.rows,
        len(runs),
        seconds,
        min(run.seconds for run in runs),
        None if case.rows is None else case.rows / seconds,
        max(run.peak_bytes for run in runs) / 1e6,
    )


class Centre(NamedTuple):
    """The centre of a symmetric distribution."""

    value: float
    #: The interval that holds it in 95 % of samples.
    low: float
    high: float


def centre_of(values: Sequence[float]) -> Centre:
    """Return the median of the means of all pairs of values, and Wilcoxon's interval around it.

    As robust as the median of the values, and its interval is a fifth narrower (Hodges and Lehmann,
    1963). Of five values or fewer no interval holds 95 %: it is from the least to the largest.

    Args:
      values: n independent values, n at least 1.

    Example:
      >>> centre_of([5, 1, 4, 2, 3, 9, 6, 8, 7])
      Centre(value=5.0, low=2.5, high=7.5)
    """
    means = sorted((one + other) / 2 for one, other in combinations_with_replacement(values, 2))
    outside = max(_means_outside(len(values)), 1)
    return Centre(statistics.median(means), means[outside - 1], means[-outside])


@cache
def _means_outside(count: int) -> int:
    """Return which of the ordered means of pairs of `count` values bounds the interval, from 1."""
    # The number of means below the centre is a sum of ranks 1 to n, each taken by a coin.
    ways = [1]
    for rank in range(1, count + 1):
        ways = [
            (ways[total] if total < len(ways) else 0) + (ways[total - rank] if total >= rank else 0)
            for total in range(len(ways) + rank)
        ]
    outside, left = 0, 0.025 * 2**count - ways[0]
    while left >= 0:
        outside += 1
        left -= ways[outside]
    return outside


def render(
    machine: dict[str, str],
    figures: Sequence[Figure],
    ratios: Sequence[Ratio],
    latencies: Sequence[Latency] = (),
) -> str:
    """Return the machine and a line for each figure, latency and ratio."""
    heading = ("", "model", "rows", "runs", "seconds", "fastest", "rows/s", "peak MB")
    lines = [
        (
            f.name,
            f.model or "",
            "" if f.rows is None else f"{f.rows:,}",
            str(f.runs),
            f"{f.seconds:.2f}",
            f"{f.least_seconds:.2f}",
            "" if f.rows_per_second is None else f"{f.rows_per_second:,.0f}",
            f"{f.peak_mb:,.0f}",
        )
        for f in figures
    ]
    bounds = [(r.name, f"{r.value:.2f}", *_judged(r)) for r in ratios]
    described = " · ".join(f"{name} {value}" for name, value in machine.items())
    parts = [described, _aligned([heading, *lines], left=2)]
    if latencies:
        parts.append(_aligned([_LATENCY_HEADING, *map(_latency_line, latencies)], left=1))
    if bounds:
        parts.append(_aligned([("", "", "bound", "aim", ""), *bounds], left=1))
    return "\n\n".join(parts)


_LATENCY_HEADING = ("milliseconds", "rows", "missing", "p50", "p99", "p99.9", "max")


def _latency_line(latency: Latency) -> tuple[str, ...]:
    values = (latency.p50, latency.p99, latency.p99_9, latency.longest)
    counts = (latency.rows, latency.missing)
    shown = (f"{ms:,.0f}" if ms >= 10 else f"{ms:.2f}" for ms in values)
    return (latency.name, *(f"{n:,}" for n in counts), *shown)


def _judged(ratio: Ratio) -> tuple[str, str, str]:
    if ratio.bound is None:
        return "", "", ""
    sign = "<=" if ratio.at_most else ">="
    aim = "" if ratio.aim is None else f"{ratio.aim:g}"
    return f"{sign} {ratio.bound:g}", aim, "holds" if ratio.holds else "MISSED"


def _aligned(rows: Sequence[tuple[str, ...]], left: int) -> str:
    """Align columns: the first `left` to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )

"""The settings and results of a run of benchmarks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.inputs import Inputs
from benchmarks.latency import Latency
from benchmarks.measure import Case, Run, run_in_turn
from benchmarks.table import Figure, Ratio, figure

#: Bounds are for at least so many rows: with fewer, Python's imports decide.
BOUND_ROWS = 5_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Settings of a run."""

    #: What to score, by what.
    inputs: Inputs
    #: How often each case runs.
    repeat: int
    #: Kinds of model whose three ways to score are compared.
    models: tuple[str, ...]
    #: Whether what takes long is measured too: row by row all rows, a stream's memory.
    full: bool
    #: How long a stream is watched at each rate, in seconds.
    seconds: float = 60.0

    def bound(self, value: float) -> float | None:
        """Return a bound on a figure of all rows, if there are enough rows for it."""
        return value if self.inputs.rows >= BOUND_ROWS else None


@dataclass
class Results:
    """Results of a run."""

    #: In the order of the table.
    figures: list[Figure] = field(default_factory=list)
    #: In the order of the table.
    latencies: list[Latency] = field(default_factory=list)
    #: In the order of the table.
    ratios: list[Ratio] = field(default_factory=list)

    def measure(self, repeat: int, cases: Sequence[Case]) -> list[Figure]:
        """Run cases in turn; add their figures and return them in the same order.

        Raises:
          ProcessFailedError: a process failed.
        """
        runs = run_in_turn(cases, repeat, report)
        figures = [figure(case, runs[case]) for case in cases]
        self.figures += figures
        return figures


def report(case: Case, measured: Run) -> None:
    """Log a run."""
    size = "" if case.rows is None else f", {case.rows:,} rows"
    model = f", {case.model}" if case.model else ""
    peak = measured.peak_bytes / 1e6
    log.info(
        "%s%s%s: %.2f s, %.2f s of processor, %.0f MB",
        *(case.name, model, size, measured.seconds, measured.processor_seconds, peak),
    )

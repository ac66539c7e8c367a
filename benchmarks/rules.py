"""Cost of a hundred rules in blocks of files and of a stream."""

from __future__ import annotations

import statistics
import sys

from benchmarks.measure import printed
from benchmarks.plan import Plan, Results, log
from benchmarks.table import Figure, Ratio

_ROWS = 1_000_000
#: A block of files, and a micro-batch of a stream.
_BLOCKS = (50_000, 300)
#: Seconds that a hundred rules may take on a million rows, in large blocks.
_BOUND = 1.0


def measure_rules(plan: Plan, results: Results) -> None:
    """Decide with a hundred rules and without, on one core, in a new process.

    All of it is work of the processor, so its seconds are measured: others do not disturb them.
    """
    rows = min(_ROWS, plan.inputs.rows)
    for block in _BLOCKS:
        command = [sys.executable, "-m", "benchmarks.rules_run"]
        figures = printed([*command, str(rows), str(block), str(plan.repeat)])
        for name in ("with", "without"):
            seconds = statistics.median(figures[name])
            figure = Figure(
                f"decide {name} 100 rules, blocks of {block:,}",
                None,
                figures["rows"],
                plan.repeat,
                seconds,
                min(figures[name]),
                figures["rows"] / seconds,
                0.0,
            )
            results.figures.append(figure)
            log.info("%s: %.2f s", figure.name, seconds)
        more = min(figures["with"]) - min(figures["without"])
        bound = _BOUND if block == _BLOCKS[0] and rows == _ROWS else None
        ratio = f"100 rules in blocks of {block:,}, processor seconds a million rows"
        results.ratios.append(Ratio(ratio, more / figures["rows"] * 1e6, bound))

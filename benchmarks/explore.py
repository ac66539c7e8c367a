"""Time of `explore`."""

from __future__ import annotations

from benchmarks import commands
from benchmarks.measure import Case
from benchmarks.plan import Plan, Results
from benchmarks.table import Ratio

#: Seconds that the handbook's transactions may take, the whole process.
_BOUND = 20.0
_BOUND_ROWS = 1_000_000


def measure_explore(plan: Plan, results: Results) -> None:
    """`explore` of the handbook's transactions, with their velocity features."""
    inputs = plan.inputs
    source, page = inputs.published, inputs.work / "out" / "explore.html"
    rows = inputs.rows_of(source)
    command = commands.explore(source, "handbook", page)
    (measured,) = results.measure(plan.repeat, [Case("explore", rows, (command,))])
    bound = _BOUND if rows >= _BOUND_ROWS else None
    results.ratios.append(Ratio("explore, seconds", measured.seconds, bound))

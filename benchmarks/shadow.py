"""Cost of challengers in shadow: the champion alone, and beside two and four of them."""

from __future__ import annotations

import statistics

from benchmarks import commands
from benchmarks.measure import Case, run_in_turn
from benchmarks.plan import Plan, Results, report
from benchmarks.table import Ratio, figure

#: Number of challengers, and how much more processor time than the champion alone they may take.
_BOUNDS = {2: 1.5, 4: 2.0}
#: Rows of a run at most, so that all runs take a few minutes; bounds are for so many.
_ROWS = 1_000_000


def measure_shadow(plan: Plan, results: Results) -> None:
    """Measure `score --shadow` of simulated transactions, in turn with the champion alone.

    A ratio is the median of the rounds': the processor time of the whole process with challengers
    over that of the process without in the same round.
    """
    inputs, number = plan.inputs, min(plan.inputs.rows, _ROWS)
    champion, *challengers = inputs.handbook_bundles(1 + max(_BOUNDS))
    rows, out = inputs.simulated(number), inputs.work / "out"

    def case(count: int) -> Case:
        shadows = [part for one in challengers[:count] for part in ("--shadow", str(one))]
        command = commands.pipeline(rows, champion, out / f"shadow-{count}", *shadows)
        name = f"score, {count} in shadow" if count else "score, champion alone"
        return Case(name, number, (command,))

    alone, *beside = cases = [case(count) for count in (0, *_BOUNDS)]
    runs = run_in_turn(cases, plan.repeat, report)
    results.figures += [figure(one, runs[one]) for one in cases]
    for (count, bound), one in zip(_BOUNDS.items(), beside, strict=True):
        ratios = [
            shadowed.processor_seconds / before.processor_seconds
            for shadowed, before in zip(runs[one], runs[alone], strict=True)
        ]
        name = f"processor time of score, {count} in shadow / alone"
        enough = number >= _ROWS
        results.ratios.append(Ratio(name, statistics.median(ratios), bound if enough else None))

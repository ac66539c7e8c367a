"""Cost of challengers in shadow: the champion alone, and beside two and four of them."""

from __future__ import annotations

from benchmarks import commands
from benchmarks.measure import Case
from benchmarks.plan import Plan, Results
from benchmarks.table import Ratio

#: Number of challengers, and how much longer than the champion alone a run with them may take.
_BOUNDS = {2: 1.5, 4: 2.0}


def measure_shadow(plan: Plan, results: Results) -> None:
    """Measure `score --shadow` of simulated transactions, in turn with the champion alone."""
    inputs = plan.inputs
    champion, *challengers = inputs.handbook_bundles(1 + max(_BOUNDS))
    rows, out = inputs.handbook() / "all.parquet", inputs.work / "out"

    def case(number: int) -> Case:
        shadows = [part for one in challengers[:number] for part in ("--shadow", str(one))]
        command = commands.pipeline(rows, champion, out / f"shadow-{number}", *shadows)
        name = f"score, {number} in shadow" if number else "score, champion alone"
        return Case(name, inputs.rows_of(rows), (command,))

    alone, *beside = results.measure(plan.repeat, [case(number) for number in (0, *_BOUNDS)])
    results.ratios += [
        Ratio(f"score, {number} in shadow / alone", one.seconds / alone.seconds, plan.bound(bound))
        for (number, bound), one in zip(_BOUNDS.items(), beside, strict=True)
    ]

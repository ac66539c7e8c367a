"""Cost of scoring with velocity features: the handbook's transactions, and many rows."""

from __future__ import annotations

from benchmarks import commands
from benchmarks.measure import Case
from benchmarks.plan import Plan, Results
from benchmarks.table import Ratio

#: What remembering the ids may take.
_BYTES_AN_ID = 16


def measure_handbook(plan: Plan, results: Results) -> None:
    """Measure `score` of the handbook's transactions with a model of `train`."""
    inputs = plan.inputs
    source = inputs.published
    bundle, out = inputs.published_bundle(), inputs.work / "out" / "features"
    rows = inputs.rows_of(source)
    cases = [
        Case(f"score with velocity, {n}", rows, (commands.pipeline(source, bundle, out, *options),))
        for n, options in (("1 worker", ()), ("2 workers", ("--workers", "2")))
    ]
    one, _ = results.measure(plan.repeat, cases)
    speed = rows / one.seconds / 1_000
    bound = 80 if rows >= 1_000_000 else None
    results.ratios.append(
        Ratio("score with velocity, thousand rows/s, 1 worker", speed, bound, False, 150)
    )


def measure_many(plan: Plan, results: Results) -> None:
    """Measure time and memory a row, with velocity features, from few rows to many."""
    inputs = plan.inputs
    sizes = (2 * inputs.rows // 100, 2 * inputs.rows // 10, 2 * inputs.rows)
    bundle, out = inputs.handbook_bundle(), inputs.work / "out" / "features"
    cases = [
        Case("score with velocity", size, (commands.pipeline(inputs.simulated(size), bundle, out),))
        for size in sizes
    ]
    few, some, many = results.measure(plan.repeat, cases)
    less_ids = many.peak_mb - _BYTES_AN_ID * sizes[2] / 1e6
    name = f"peak memory at {sizes[2]:,} rows, less {_BYTES_AN_ID} bytes a row, / at {sizes[1]:,}"
    results.ratios.append(Ratio(f"{name}, velocity", less_ids / some.peak_mb, plan.bound(1.3)))
    # Differences, because starting takes as long for few rows as for many.
    slow = (many.seconds - some.seconds) / (sizes[2] - sizes[1])
    quick = (some.seconds - few.seconds) / (sizes[1] - sizes[0])
    name = f"cost of a row from {sizes[1]:,} to {sizes[2]:,} / from {sizes[0]:,}, velocity"
    results.ratios.append(Ratio(name, slow / quick))

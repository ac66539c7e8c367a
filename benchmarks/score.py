"""Three ways to score: a plain loop (a), the pipeline (b) and Beam row by row (c)."""

from __future__ import annotations

from benchmarks import commands
from benchmarks.measure import Case, run
from benchmarks.plan import Plan, Results
from benchmarks.table import Ratio

#: Rows of the ULB transactions.
ULB_ROWS = 284_807
#: Rows that take no time beside the start-up.
_START_UP_ROWS = 1_000

PLAIN, PIPELINE = "plain loop (a)", "beam-fraud score (b)"
ROWS, ROWS_ONE_THREAD = "row by row (c)", "row by row, one thread (c1)"
_BY_ROWS = (ROWS, ROWS_ONE_THREAD)


def measure_score(plan: Plan, results: Results) -> None:
    """Measure the three ways to score, at four sizes, for each kind of model."""
    rows = plan.inputs.rows
    small = min(_START_UP_ROWS, rows)
    ways: dict[int, dict[str, None]] = {}
    for size, names in (
        (small, (PLAIN, PIPELINE, *_BY_ROWS)),
        (min(ULB_ROWS, rows), (PLAIN, PIPELINE, *_BY_ROWS)),
        (min(2 * ULB_ROWS, rows), (PIPELINE, *_BY_ROWS)),
        (rows, (PLAIN, PIPELINE, *_BY_ROWS) if plan.full else (PLAIN, PIPELINE)),
    ):
        ways.setdefault(size, {}).update(dict.fromkeys(names))
    for model in plan.models:
        cases = [[_case(plan, n, model, size) for n in names] for size, names in ways.items()]
        for case in cases[0]:
            run(case)  # not counted: reads Python's libraries from the disk
        seconds: dict[tuple[str, int], float] = {}
        for group in cases:
            for measured in results.measure(plan.repeat, group):
                seconds[measured.name, measured.rows or 0] = measured.seconds
        results.ratios += _ratios(plan, seconds, model, small)


def _case(plan: Plan, name: str, model: str, rows: int) -> Case:
    inputs = plan.inputs
    bundle, directory, out = inputs.ulb_bundle(model), inputs.ulb(rows), inputs.work / "out"
    command = {
        PLAIN: commands.plain_loop(
            sorted(directory.glob("*.parquet")), bundle, out / "plain.parquet"
        ),
        PIPELINE: commands.pipeline(directory, bundle, out / "pipeline"),
        ROWS: commands.row_by_row(directory, bundle, out / "rows"),
        ROWS_ONE_THREAD: commands.row_by_row_one_thread(directory, bundle, out / "rows"),
    }[name]
    return Case(name, rows, (command,), model)


def _ratios(
    plan: Plan, seconds: dict[tuple[str, int], float], model: str, small: int
) -> list[Ratio]:
    rows = plan.inputs.rows
    overhead = seconds[PIPELINE, rows] / seconds[PLAIN, rows]
    ratios = [Ratio(f"(b) / (a) at {rows:,} rows, {model}", overhead, plan.bound(1.5), aim=1.15)]
    # Only a model that costs little shows what a row costs by itself.
    bound = plan.bound(5.0) if model == "hist_gradient_boosting" else None
    return (
        ratios
        + _gain(seconds, model, ROWS, "(c)", bound, rows, small)
        + _gain(seconds, model, ROWS_ONE_THREAD, "(c1)", None, rows, small)
    )


def _gain(
    seconds: dict[tuple[str, int], float],
    model: str,
    way: str,
    sign: str,
    bound: float | None,
    rows: int,
    small: int,
) -> list[Ratio]:
    pipeline = seconds[PIPELINE, rows]
    if (way, rows) in seconds:
        name = f"{sign} / (b) at {rows:,} rows, {model}"
        return [Ratio(name, seconds[way, rows] / pipeline, bound, at_most=False, aim=8)]
    middle = 2 * ULB_ROWS
    beyond, ours = (seconds[w, middle] - seconds[w, small] for w in (way, PIPELINE))
    # As many rows again take as long again: only the start-up does not grow.
    extended = seconds[way, small] + beyond * (rows - small) / (middle - small)
    same = f"{sign} / (b) at {middle:,} rows, less their time for {small:,}, {model}"
    all_ = f"{sign} extended from {middle:,} rows / (b) at {rows:,}, {model}"
    return [
        Ratio(same, beyond / ours, bound, at_most=False, aim=8),
        Ratio(all_, extended / pipeline, bound, at_most=False, aim=8),
    ]

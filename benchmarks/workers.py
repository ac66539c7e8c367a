"""One worker and two, beside two plain loops: the effect of a second core."""

from __future__ import annotations

from benchmarks import commands
from benchmarks.measure import Case
from benchmarks.plan import Plan, Results
from benchmarks.table import Ratio


def measure_workers(plan: Plan, results: Results) -> None:
    """Measure one and two workers, and two plain loops side by side."""
    inputs, rows, model = plan.inputs, plan.inputs.rows, "forest"
    bundle, directory = inputs.ulb_bundle(model), inputs.ulb(rows)
    files, out = sorted(directory.glob("*.parquet")), inputs.work / "out"
    halves = files[::2], files[1::2]
    loops = [
        commands.plain_loop(half, bundle, out / f"half-{number}.parquet")
        for number, half in enumerate(halves)
    ]
    workers = {
        "one worker": (),
        "two workers, processes": ("--workers", "2"),
        "two workers, threads": ("--workers", "2", "--direct_running_mode", "multi_threading"),
    }
    cases = [Case("two plain loops side by side", rows, tuple(loops), model)] + [
        Case(name, rows, (commands.pipeline(directory, bundle, out / "workers", *options),), model)
        for name, options in workers.items()
    ]
    side_by_side, _, processes, threads = results.measure(plan.repeat, cases)
    for measured, bound in ((processes, plan.bound(1.25)), (threads, None)):
        name = f"{measured.name} / two plain loops, {model}"
        results.ratios.append(Ratio(name, measured.seconds / side_by_side.seconds, bound))

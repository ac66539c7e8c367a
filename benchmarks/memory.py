"""Peak memory of the pipeline over few rows and over many."""

from __future__ import annotations

from benchmarks import commands
from benchmarks.measure import Case
from benchmarks.plan import Plan, Results
from benchmarks.table import Ratio

#: What remembering the ids may take.
_BYTES_AN_ID = 16


def measure_memory(plan: Plan, results: Results) -> None:
    """ULB transactions, which have no ids: the few rows in one file, all of them in six."""
    inputs = plan.inputs
    bundle = inputs.ulb_bundle("hist_gradient_boosting")
    out = inputs.work / "out" / "memory"
    cases = [
        Case("memory, no ids", n, (commands.pipeline(inputs.ulb(n), bundle, out),))
        for n in (inputs.first_rows, inputs.rows)
    ]
    first, all_ = results.measure(plan.repeat, cases)
    bound = plan.bound(1.3)
    name = f"peak memory at {inputs.rows:,} rows / at {inputs.first_rows:,}"
    results.ratios.append(Ratio(f"{name}, no ids", all_.peak_mb / first.peak_mb, bound))


def measure_memory_with_ids(plan: Plan, results: Results) -> None:
    """Simulated transactions, each time in one file, whose ids have to be remembered."""
    inputs = plan.inputs
    bundle, directory = inputs.handbook_bundle(), inputs.handbook()
    out = inputs.work / "out" / "memory"
    cases = [
        Case("memory, ids", n, (commands.pipeline(directory / f"{file}.parquet", bundle, out),))
        for n, file in ((inputs.first_rows, "first"), (inputs.rows, "all"))
    ]
    first, all_ = results.measure(plan.repeat, cases)
    ids_mb = _BYTES_AN_ID * inputs.rows / 1e6
    name = f"peak memory at {inputs.rows:,} rows / at {inputs.first_rows:,}"
    name = f"{name}, less {_BYTES_AN_ID} bytes a row for ids"
    value = (all_.peak_mb - ids_mb) / first.peak_mb
    results.ratios.append(Ratio(name, value, plan.bound(1.3)))

"""Peak memory of the pipeline over few rows and over many."""

from __future__ import annotations

from benchmarks import commands
from benchmarks.measure import Case
from benchmarks.plan import Plan, Results
from benchmarks.table import Ratio

#: What a row may add to the peak: 16 bytes for its id, and what a run without ids grows by as well.
_BYTES_A_ROW = 40.0


def measure_memory(plan: Plan, results: Results) -> None:
    """Measure ULB transactions, which have no ids: few rows in one file, all in six."""
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
    """Measure simulated transactions with ids, in one file each."""
    inputs = plan.inputs
    bundle, directory = inputs.handbook_bundle(), inputs.handbook()
    out = inputs.work / "out" / "memory"
    cases = [
        Case("memory, ids", n, (commands.pipeline(directory / f"{file}.parquet", bundle, out),))
        for n, file in ((inputs.first_rows, "first"), (inputs.rows, "all"))
    ]
    first, all_ = results.measure(plan.repeat, cases)
    more = inputs.rows - inputs.first_rows
    name = f"bytes a row of peak memory from {inputs.first_rows:,} to {inputs.rows:,} rows, ids"
    value = (all_.peak_mb - first.peak_mb) * 1e6 / max(more, 1)
    results.ratios.append(Ratio(name, value, plan.bound(_BYTES_A_ROW)))

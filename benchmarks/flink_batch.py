"""`score` with a forest on a Flink cluster of this machine, beside the local runner."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import commands
from benchmarks.inputs import FILES
from benchmarks.measure import Case
from benchmarks.plan import BOUND_ROWS, Plan, Results, log
from benchmarks.table import Ratio
from deploy.flink.cluster import FlinkCluster

_MODEL = "forest"
#: Unless everything is measured: a fifth of the rows.
_ROWS = 1_000_000
#: Where it runs: in this process, and in one slot and in two of the cluster.
LOCAL, ONE, TWO = "local runner", "Flink, parallelism 1", "Flink, parallelism 2"


def measure_flink_batch(plan: Plan, results: Results) -> None:
    """Measure the same files in one slot and in two, including submission and start of workers.

    The memory is that of the command alone: cluster and workers are not its processes.
    """
    inputs = plan.inputs
    rows = inputs.rows if plan.full else min(_ROWS, inputs.rows)
    directory, bundle = inputs.ulb(rows, FILES), inputs.ulb_bundle(_MODEL)
    out = inputs.work / "out"
    with (
        TemporaryDirectory(prefix="beam-fraud-") as data,
        FlinkCluster(Path(data), slots=2) as cluster,
    ):
        cases = [Case(LOCAL, rows, (commands.pipeline(directory, bundle, out / "local"),), _MODEL)]
        for name, slots in ((ONE, 1), (TWO, 2)):
            # A process for each slot, or the two would wait for each other's interpreter.
            share = (f"--parallelism={slots}", f"--sdk_worker_parallelism={slots}")
            options = (*cluster.beam_options, *share)
            command = commands.pipeline(directory, bundle, out / f"flink-{slots}", *options)
            cases.append(Case(name, rows, (command,), _MODEL))
        seconds = [measured.seconds for measured in results.measure(plan.repeat, cases)]
    results.ratios += ratios(rows, *seconds)
    log.info("the cluster's processes are not in the figures of memory")


def ratios(rows: int, local: float, one: float, two: float) -> list[Ratio]:
    """Return the ratios of the seconds, with bounds if there are enough rows."""
    bounded = rows >= BOUND_ROWS
    where = f"at {rows:,} rows, {_MODEL}"
    return [
        Ratio(f"{ONE} / {LOCAL} {where}", one / local, 1.5 if bounded else None),
        Ratio(f"{ONE} / {TWO} {where}", one / two, 1.3 if bounded else None, at_most=False),
    ]

"""What reasons cost a flagged row, and what is left of the throughput where 5 % are flagged."""

from __future__ import annotations

import statistics
import sys
from typing import Any

from benchmarks.measure import printed
from benchmarks.plan import Plan, Results, log
from benchmarks.table import Figure, Ratio

#: Linear, exact in trees, and by the paths of a hundred deep ones.
_KINDS = ("logistic", "hist_gradient_boosting", "forest")
#: Bounds are for at least so many rows.
_BOUND_ROWS = 100_000
#: Microseconds a row in blocks of a hundred, for what is exact.
_MOST_MICROSECONDS = 75.0


def measure_reasons(plan: Plan, results: Results) -> None:
    """Each kind of model on the ULB transactions, in processor seconds of one core."""
    for kind in _KINDS:
        given = (str(plan.inputs.ulb_bundle(kind)), str(plan.inputs.source), str(plan.repeat))
        found = printed((sys.executable, "-m", "benchmarks.reasons_run", *given))
        for name, seconds in (
            ("predict", found["predict_seconds"]),
            ("predict, reasons for 5 %", found["explain_seconds"]),
        ):
            results.figures.append(_figure(name, kind, found["rows"], seconds))
        log.info("%s: %.3f s to prepare", kind, found["prepared_seconds"])
        results.ratios += ratios(kind, found)


def ratios(kind: str, found: dict[str, Any]) -> list[Ratio]:
    """What the measurements come to, and their bounds if rows are enough for them."""
    bounded = found["rows"] >= _BOUND_ROWS
    costs = [
        Ratio(
            f"reasons of {kind} in blocks of {int(size):,}, microseconds a row",
            cost,
            _MOST_MICROSECONDS if bounded and size != "10" and kind != "forest" else None,
        )
        for size, cost in found["microseconds"].items()
    ]
    name = f"{kind}: predict and reasons for 5 % / predict"
    return [*costs, Ratio(name, found["median_ratio"], 2.0 if bounded else None)]


def _figure(name: str, kind: str, rows: int, seconds: list[float]) -> Figure:
    median = statistics.median(seconds)
    return Figure(name, kind, rows, len(seconds), median, min(seconds), rows / median, 0.0)

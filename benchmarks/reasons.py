"""Cost of reasons for a flagged row, and throughput with 5 % flagged."""

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
    """Measure each kind of model on the ULB transactions, in processor seconds of one core."""
    for kind in _KINDS:
        arguments = (str(plan.inputs.ulb_bundle(kind)), str(plan.inputs.source), str(plan.repeat))
        figures = printed((sys.executable, "-m", "benchmarks.reasons_run", *arguments))
        for name, seconds in (
            ("predict", figures["predict_seconds"]),
            ("predict, reasons for 5 %", figures["explain_seconds"]),
        ):
            results.figures.append(_figure(name, kind, figures["rows"], seconds))
        log.info("%s: %.3f s to prepare", kind, figures["prepared_seconds"])
        results.ratios += ratios(kind, figures)


def ratios(kind: str, figures: dict[str, Any]) -> list[Ratio]:
    """Return the ratios of the measurements, with bounds if there are enough rows."""
    bounded = figures["rows"] >= _BOUND_ROWS
    costs = [
        Ratio(
            f"reasons of {kind} in blocks of {int(size):,}, microseconds a row",
            cost,
            _MOST_MICROSECONDS if bounded and size != "10" and kind != "forest" else None,
        )
        for size, cost in figures["microseconds"].items()
    ]
    name = f"{kind}: predict and reasons for 5 % / predict"
    return [*costs, Ratio(name, figures["median_ratio"], 2.0 if bounded else None)]


def _figure(name: str, kind: str, rows: int, seconds: list[float]) -> Figure:
    median = statistics.median(seconds)
    return Figure(name, kind, rows, len(seconds), median, min(seconds), rows / median, 0.0)

"""The section on the cost of errors."""

from __future__ import annotations

from typing import Any

from beam_fraud.evaluation.charts.figure import Plot, legend_below, plot
from beam_fraud.evaluation.charts.page import Section, Table
from beam_fraud.evaluation.cost import CostCurve
from beam_fraud.evaluation.evaluation import Evaluation, Report
from beam_fraud.evaluation.report.naming import in_colours


def cost_section(report: Report) -> Section:
    """Return the section: cost by threshold, with fixed prices and with amounts."""
    prices = report.models[0].costs
    fixed = f"A missed fraud costs {prices.missed:g} and a false alarm {prices.false_alarm:g}"
    by_amount = f"A missed fraud costs its amount and a false alarm {prices.false_alarm:g}"
    return Section(
        "Costs",
        (
            f"{fixed} (--cost). The best threshold is the best on these very rows, so expect a "
            "little less of it on new ones.",
            _plot(report, "cost", fixed, amounts=False),
            _plot(report, "cost_by_amount", by_amount, amounts=True),
            _table(report),
        ),
    )


def _curve(model: Evaluation, amounts: bool) -> CostCurve:
    return model.costs.by_amount if amounts else model.costs.fixed


def _plot(report: Report, name: str, caption: str, *, amounts: bool) -> Plot:
    def draw(axes: Any) -> None:
        least, nothing = [], 0.0
        for model, label, colour in in_colours(report.models):
            curve = _curve(model, amounts)
            nothing = curve.nothing_flagged
            least.append(curve.least)
            axes.plot(curve.thresholds, curve.costs, color=colour, lw=1.4, label=label)
            axes.plot(model.metrics.threshold, curve.in_use, "o", color=colour, ms=5)
        axes.axhline(nothing, color="#999999", lw=0.8, ls=":", label="nothing flagged")
        # The cost of flagging nearly all rows would dominate the scale.
        most = max(nothing, *(_curve(m, amounts).in_use for m in report.models))
        axes.set_ylim(0, max(most * 1.35, min(least) * 2, 1e-9))
        axes.set(xlabel="threshold", ylabel="cost", xlim=(-0.02, 1.02))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        legend_below(axes)

    return plot(
        name,
        f"{caption}; a dot is the threshold in use.",
        draw,
        width=4.9,
        height=3.5 + 0.15 * len(report.models),
    )


def _money(value: float) -> float:
    return round(value) if value >= 100 else round(value, 2)


def _table(report: Report) -> Table:
    return Table(
        (
            "model",
            "a miss costs",
            "threshold",
            "cost",
            "best threshold",
            "its cost",
            "none flagged",
        ),
        tuple(
            (
                model.model_id,
                "its amount" if amounts else f"{model.costs.missed:g}",
                f"{model.metrics.threshold:.6g}",
                _money(curve.in_use),
                "none" if curve.best_threshold is None else f"{curve.best_threshold:.6g}",
                _money(curve.least),
                _money(curve.nothing_flagged),
            )
            for model in report.models
            for amounts in (False, True)
            for curve in [_curve(model, amounts)]
        ),
    )

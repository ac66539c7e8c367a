"""Sections of what scores do at every threshold: precision, cost, counts, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from beam_fraud.evaluation.charts import (
    FRAUD,
    GENUINE,
    SERIES,
    Part,
    Plot,
    Section,
    Table,
    drawn,
    legend_below,
    plot,
)
from beam_fraud.evaluation.curves import CostCurve, Curves
from beam_fraud.evaluation.evaluation import Evaluation, Report

#: Minimum distance of a threshold from 0 or 1 on the axis.
_NEAREST = 1e-6


def curves_section(report: Report) -> Section:
    """Return the section: precision against recall, ROC, and both against the threshold."""
    frauds = report.models[0].metrics.frauds
    if not 0 < frauds < report.models[0].metrics.rows:
        return Section("Curves", ("Rows of one class have no curves.",))
    parts: list[Part] = [_precision_recall(report), _roc(report)]
    for place, model in enumerate(report.models):
        parts.append(_by_threshold(model, plot_name("threshold", place, report.models)))
    return Section("Curves", tuple(parts))


def _precision_recall(report: Report) -> Plot:
    def draw(axes: Any) -> None:
        for model, name, colour in in_colours(report.models):
            curves, figures = model.curves, model.metrics
            label = f"{name}, average precision {figures.average_precision:.3f}"
            axes.plot(curves.recall, curves.precision, color=colour, lw=1.4, label=label)
            if figures.precision is not None and figures.recall is not None:
                axes.plot(figures.recall, figures.precision, "o", color=colour, ms=6)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
        legend_below(axes)

    caption = "Precision against recall over all thresholds; a dot is the threshold in use."
    return plot("precision_recall", caption, draw, width=4.9, height=_curve_height(report))


def _roc(report: Report) -> Plot:
    def draw(axes: Any) -> None:
        lowest = 1.0
        for model, name, colour in in_colours(report.models):
            curves, figures = model.curves, model.metrics
            genuine = figures.confusion["fp"] + figures.confusion["tn"]
            # There are no rates below one row in all.
            at = np.maximum(curves.false_positive_rate, 0.5 / genuine)
            lowest = min(lowest, float(at.min()))
            label = f"{name}, area {figures.roc_auc:.3f}"
            axes.plot(at, curves.recall, color=colour, lw=1.4, label=label)
        chance = np.geomspace(max(lowest, 1e-9), 1, 100)
        axes.plot(chance, chance, color="#999999", lw=0.8, ls=":")
        axes.set(xscale="log", xlabel="share of genuine rows flagged", ylabel="recall")
        axes.set(ylim=(0, 1.03))
        legend_below(axes)

    caption = (
        "Receiver operating characteristic, the share of false alarms by its logarithm: nobody can "
        "work with more than a few in a hundred. Dotted: chance."
    )
    return plot("roc", caption, draw, width=4.9, height=_curve_height(report))


def _curve_height(report: Report) -> float:
    return 3.9 + 0.15 * len(report.models)


def _by_threshold(model: Evaluation, name: str) -> Plot:
    curves, threshold = model.curves, model.metrics.threshold

    def draw(axes: Any) -> None:
        at, in_use = curves.thresholds, np.float64(threshold)
        if _crowded(curves):
            # Stretch both ends of the scale as log-odds do; 0 and 1 have none.
            nearest = 10 ** np.floor(np.log10(_room(curves)))
            at = np.clip(at, nearest, 1 - nearest)
            in_use = np.clip(in_use, nearest, 1 - nearest)
            axes.set_xscale("logit", one_half="0.5")
            axes.tick_params(axis="x", labelsize=7)
        axes.plot(at, curves.precision, color="#3b75af", lw=1.4, label="precision")
        axes.plot(at, curves.recall, color="#d1493f", lw=1.4, label="recall")
        axes.axvline(in_use, color="#555555", lw=0.9, ls="--", label="threshold in use")
        axes.set(xlabel="threshold", ylabel="share", ylim=(0, 1.03), title=drawn(model.model_id))
        legend_below(axes)

    return plot(name, "Precision and recall against the threshold.", draw, width=4.9, height=3.3)


def _crowded(curves: Curves) -> bool:
    """Return whether most points are near 0 or near 1."""
    half = float(curves.thresholds[int(np.argmax(curves.recall >= 0.5))])
    return not 0.02 < half < 0.98


def _room(curves: Curves) -> float:
    """Return the distance to 0 and 1 of the axis: it shows all frauds that labels can name."""
    changes = np.flatnonzero(np.diff(curves.caught, prepend=0))
    values = curves.thresholds[changes]
    distance = np.minimum(values, 1 - values)
    inside = distance[distance > 0]
    return float(np.clip(inside.min(), _NEAREST, 1e-2)) if len(inside) else 1e-3


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
            _cost_plot(report, "cost", fixed, amounts=False),
            _cost_plot(report, "cost_by_amount", by_amount, amounts=True),
            _cost_table(report),
        ),
    )


def _cost_curve(model: Evaluation, amounts: bool) -> CostCurve:
    return model.costs.by_amount if amounts else model.costs.fixed


def _cost_plot(report: Report, name: str, caption: str, *, amounts: bool) -> Plot:
    def draw(axes: Any) -> None:
        least, nothing = [], 0.0
        for model, label, colour in in_colours(report.models):
            curve = _cost_curve(model, amounts)
            nothing = curve.nothing_flagged
            least.append(curve.least)
            axes.plot(curve.thresholds, curve.costs, color=colour, lw=1.4, label=label)
            axes.plot(model.metrics.threshold, curve.in_use, "o", color=colour, ms=5)
        axes.axhline(nothing, color="#999999", lw=0.8, ls=":", label="nothing flagged")
        # The cost of flagging nearly all rows would dominate the scale.
        most = max(nothing, *(_cost_curve(m, amounts).in_use for m in report.models))
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


def _cost_table(report: Report) -> Table:
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
            for curve in [_cost_curve(model, amounts)]
        ),
    )


def scores_section(report: Report) -> Section:
    """Return a histogram of scores by class for each model."""
    plots = (
        _histogram(model, plot_name("scores", place, report.models))
        for place, model in enumerate(report.models)
    )
    return Section("Scores", tuple(plots))


def calibration_section(report: Report) -> Section:
    """Return the section: reliability curves, Brier scores, expected calibration errors."""
    parts: list[Part] = [
        "A calibrated score of 0.3 means that three of ten such rows are frauds. A model that "
        "weighs frauds more in training, or a resampled one, promises more than comes; its ranking "
        "may be as good.",
        Table(
            ("model", "Brier score", "of the mean", "calibration error", "mean score", "frauds"),
            tuple(
                (
                    model.model_id,
                    *(_small(v) for v in (c.brier, c.brier_of_rate, c.expected_calibration_error)),
                    _small(c.mean_score),
                    _small(model.metrics.frauds / model.metrics.rows),
                )
                for model in report.models
                for c in [model.calibration]
            ),
            "Brier score: mean squared error, beside that of giving every row the share of frauds. "
            "Calibration error: mean distance of promised and found shares over the bins below.",
        ),
        _reliability(report),
    ]
    parts += [_bins(model) for model in report.models]
    return Section("Calibration", tuple(parts))


def _small(value: float) -> str:
    return f"{value:#.3g}"


def _histogram(model: Evaluation, name: str) -> Plot:
    histogram = model.histogram

    def draw(axes: Any) -> None:
        for counts, colour, label in (
            (histogram.genuine, GENUINE, "genuine"),
            (histogram.frauds, FRAUD, "fraud"),
        ):
            axes.stairs(counts, histogram.edges, fill=True, alpha=0.55, color=colour, label=label)
        axes.axvline(model.metrics.threshold, color="#555555", lw=0.9, ls="--")
        axes.set_yscale("symlog", linthresh=1)
        axes.set(xlabel="score", ylabel="rows", title=drawn(model.model_id), xlim=(0, 1))
        axes.set_ylim(bottom=0)
        legend_below(axes)

    caption = "Rows by score, counted by the logarithm; dashed: the threshold."
    return plot(name, caption, draw, width=4.9, height=3.2)


def _reliability(report: Report) -> Plot:
    def draw(axes: Any) -> None:
        shown = [bin_ for model in report.models for bin_ in model.calibration.bins]
        # Shares of 0 have no logarithm: draw them at the bottom with their upper ends.
        floor = min([b.rate_high for b in shown] + [b.mean_score for b in shown if b.mean_score])
        floor = max(floor / 2, 1e-7)
        axes.plot([floor, 1], [floor, 1], color="#999999", lw=0.8, ls=":")
        for model, name, colour in in_colours(report.models):
            bins = model.calibration.bins
            at = np.maximum([b.mean_score for b in bins], floor)
            rate = np.maximum([b.fraud_rate for b in bins], floor)
            ends = [np.maximum([b.rate_low for b in bins], floor), [b.rate_high for b in bins]]
            errors = [np.maximum(rate - ends[0], 0), np.maximum(ends[1] - rate, 0)]
            style = {"color": colour, "fmt": "o-", "ms": 4, "lw": 1.2, "elinewidth": 0.7}
            axes.errorbar(at, rate, yerr=errors, label=name, **style)
        axes.set(xscale="log", yscale="log", xlim=(floor, 1.2), ylim=(floor, 1.2))
        axes.set(xlabel="mean score of the bin", ylabel="share of frauds")
        legend_below(axes)

    caption = (
        "What scores promise against what came, by logarithms, with 95 % intervals. On the dotted "
        "line scores are probabilities; below it they promise too much."
    )
    return plot("reliability", caption, draw, width=5.4, height=4.4 + 0.15 * len(report.models))


def _bins(model: Evaluation) -> Table:
    return Table(
        ("scores from", "to", "rows", "frauds", "mean score", "share of frauds"),
        tuple(
            (
                *(_small(b.low), _small(b.high), b.rows, b.frauds),
                *(_small(b.mean_score), _small(b.fraud_rate)),
            )
            for b in model.calibration.bins
        ),
        f"{model.model_id}: half of the rows, a quarter and so on, from the lowest scores up.",
    )


def in_colours(models: Sequence[Evaluation]) -> list[tuple[Evaluation, str, str]]:
    """Return each model with its name in legends and its colour."""
    return [
        (model, drawn(model.model_id), SERIES[place % len(SERIES)])
        for place, model in enumerate(models)
    ]


def plot_name(start: str, place: int, models: Sequence[Evaluation]) -> str:
    """Return the name of a model's plot, with its number among several."""
    return start if len(models) == 1 else f"{start}_{place + 1}"

"""The section on curves over all thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np

from beam_fraud.evaluation.charts.figure import Plot, legend_below, plot
from beam_fraud.evaluation.charts.page import Part, Section
from beam_fraud.evaluation.curves import Curves
from beam_fraud.evaluation.evaluation import Evaluation, Report
from beam_fraud.evaluation.report.naming import drawn, in_colours, plot_name

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
    return plot("precision_recall", caption, draw, width=4.9, height=_height(report))


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
    return plot("roc", caption, draw, width=4.9, height=_height(report))


def _height(report: Report) -> float:
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

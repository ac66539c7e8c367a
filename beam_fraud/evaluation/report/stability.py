"""The section on figures by week."""

from __future__ import annotations

from typing import Any

import numpy as np

from beam_fraud.evaluation.charts.figure import Plot, legend_below, plot
from beam_fraud.evaluation.charts.page import Part, Section, Table, percent
from beam_fraud.evaluation.evaluation import Report
from beam_fraud.evaluation.report.naming import in_colours


def stability_section(report: Report) -> Section:
    """Return the section: average precision, alerts and shift of scores per week."""
    against = {
        "training": "those of rows that were held back in training",
        "first week": "those of the first week",
    }
    parts: list[Part] = [
        "The shift is the population stability index of scores against "
        + " or ".join(dict.fromkeys(against[m.stability.reference] for m in report.models))
        + ": under 0.1 is none to speak of, over 0.25 is a large one. Weeks start on Mondays; the "
        "first and the last may be short."
    ]
    if len(report.models[0].stability.weeks) > 1:
        parts.append(_plot(report))
    return Section("Weeks", (*parts, _table(report)))


def _plot(report: Report) -> Plot:
    def draw(axes: Any) -> None:
        starts = [week.start[5:] for week in report.models[0].stability.weeks]
        highest = [0.0] * len(axes)
        for model, name, colour in in_colours(report.models):
            weeks = model.stability.weeks
            series = (
                [np.nan if w.average_precision is None else w.average_precision for w in weeks],
                [w.alert_rate * 100 for w in weeks],
                [w.score_shift for w in weeks],
            )
            for place, (panel, values) in enumerate(zip(axes, series, strict=True)):
                # A figure may be undefined in every week.
                highest[place] = np.nanmax([highest[place], *values])
                panel.plot(range(len(weeks)), values, "o-", color=colour, ms=4, lw=1.2, label=name)
        titles = ("average precision", "rows flagged, %", "shift of scores")
        step = max(1, len(starts) // 6)
        for panel, title, most in zip(axes, titles, highest, strict=True):
            panel.set(ylabel=title, xlabel="week of")
            panel.set_xticks(range(0, len(starts), step), starts[::step], rotation=30)
            panel.margins(x=0.08)
            panel.set_ylim(0, most * 1.15 or 1)
        if len(report.models) > 1:
            legend_below(axes[0])

    return plot(
        "weeks",
        "Figures by week.",
        draw,
        width=10.0,
        height=2.8 + 0.15 * len(report.models),
        columns=3,
    )


def _table(report: Report) -> Table:
    return Table(
        ("model", "week of", "rows", "frauds", "average precision", "flagged", "shift"),
        tuple(
            (
                *(model.model_id, week.start, week.rows, week.frauds, week.average_precision),
                *(percent(week.alert_rate), f"{week.score_shift:.3f}"),
            )
            for model in report.models
            for week in model.stability.weeks
        ),
    )

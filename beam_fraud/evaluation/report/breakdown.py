"""Sections of figures by day, week, segment and feature."""

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
    percent,
    plot,
)
from beam_fraud.evaluation.evaluation import Evaluation, Report
from beam_fraud.evaluation.report.curves import in_colours, plot_name

#: Maximum of days in a table.
_MOST_DAYS = 62
#: Models per table: more make it wider than a page.
_DAYS_ABREAST = 2


def daily_section(report: Report) -> Section:
    """Return the section: alerts, caught frauds and card precision per day."""
    cards = any(model.card_precision is not None for model in report.models)
    parts: list[Part] = []
    if cards:
        parts.append(
            f"Card precision@{report.cards}: of the {report.cards} cards with the highest scores "
            "of a day, the share that is compromised; a card that was found is looked at no more "
            "on later days."
        )
    for place, model in enumerate(report.models):
        if len(model.days) > 1:
            parts.append(_day_plot(model, plot_name("days", place, report.models)))
    if len(report.models[0].days) <= _MOST_DAYS:
        parts += [
            _day_table(report, cards, start)
            for start in range(0, len(report.models), _DAYS_ABREAST)
        ]
    return Section("Days", tuple(parts))


def _day_plot(model: Evaluation, name: str) -> Plot:
    days = model.days

    def draw(axes: Any) -> None:
        places = range(len(days))
        missed = [day.frauds - day.caught for day in days]
        caught = [day.caught for day in days]
        false = [day.alerts - day.caught for day in days]
        width = 0.42
        left, right = ([place + side * width / 2 for place in places] for side in (-1, 1))
        axes.bar(left, caught, width, color=FRAUD, label="frauds caught")
        axes.bar(left, missed, width, bottom=caught, color="#efb4ae", label="frauds missed")
        axes.bar(right, false, width, color=GENUINE, label="false alarms")
        step = -(-len(days) // 8)
        axes.set_xticks(places[::step], [day.date[5:] for day in days[::step]])
        axes.set(title=drawn(model.model_id), xlabel="day", ylabel="rows")
        axes.margins(x=0.02)
        axes.grid(visible=False, axis="x")
        legend_below(axes)

    return plot(name, "Frauds and false alarms by day.", draw, width=5.2, height=3.2)


def _day_table(report: Report, cards: bool, start: int) -> Table:
    shown = report.models[start : start + _DAYS_ABREAST]
    columns = ["day", "rows", "frauds"]
    for number, _ in enumerate(shown, start + 1):
        mark = f" ({number})" if len(report.models) > 1 else ""
        figures = ["alerts", "caught", "precision", *([f"cards@{report.cards}"] if cards else [])]
        columns += [f"{figure}{mark}" for figure in figures]
    rows: list[tuple[str | int | float | None, ...]] = []
    for days in zip(*(model.days for model in shown), strict=True):
        cells: list[str | int | float | None] = [days[0].date, days[0].rows, days[0].frauds]
        for day in days:
            cells += [day.alerts, day.caught, day.precision]
            cells += [day.card_precision] if cards else []
        rows.append(tuple(cells))
    caption = f"Days in {report.timezone}.{numbered(report.models, start, _DAYS_ABREAST)}"
    if cards:
        caption += f" cards@{report.cards} is card precision@{report.cards}."
    return Table(tuple(columns), tuple(rows), caption)


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
        parts.append(_week_plot(report))
    return Section("Weeks", (*parts, _week_table(report)))


def _week_plot(report: Report) -> Plot:
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


def _week_table(report: Report) -> Table:
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


#: Models per table: more make it wider than a page.
_SEGMENTS_ABREAST = 3


def segments_section(report: Report) -> Section:
    """Return a table per segmentation, with models side by side."""
    parts: list[Part] = [
        "Rows and frauds of the segments add up to all rows; AP is average precision. With few "
        "frauds in a segment its figures say little."
    ]
    parts += [
        _segment_table(report, place, start)
        for place, _ in enumerate(report.models[0].segments)
        for start in range(0, len(report.models), _SEGMENTS_ABREAST)
    ]
    return Section("Segments", tuple(parts))


def _segment_table(report: Report, place: int, start: int) -> Table:
    shown = report.models[start : start + _SEGMENTS_ABREAST]
    several = len(report.models) > 1
    columns = ["rows", "frauds", "share"]
    for number, _ in enumerate(shown, start + 1):
        mark = f" ({number})" if several else ""
        counts = () if several else ("flagged", "caught")
        figures = (*counts, "precision", "recall", "AP")
        columns += [f"{figure}{mark}" for figure in figures]
    tables = [model.segments[place] for model in shown]
    rows: list[tuple[str | int | float | None, ...]] = []
    for segments in zip(*(table.segments for table in tables), strict=True):
        first = segments[0]
        cells: list[str | int | float | None] = [first.name, first.rows, first.frauds]
        cells.append(percent(first.frauds / first.rows))
        for s in segments:
            cells += [] if several else [s.flagged, s.caught]
            cells += [s.precision, s.recall, s.average_precision]
        rows.append(tuple(cells))
    caption = f"By {tables[0].name}.{numbered(report.models, start, _SEGMENTS_ABREAST)}"
    return Table((tables[0].name, *columns), tuple(rows), caption)


#: Maximum of features in a plot and a table.
_SHOWN = 20


def importance_section(report: Report) -> Section:
    """Return the section: permutation importances, and the models' own."""
    parts: list[Part] = [
        "How much average precision is lost where the values of a feature are shuffled among the "
        "rows. Features that stand for each other all look worth little."
    ]
    for place, model in enumerate(report.models):
        importance = model.permutation_importance
        if importance is None:
            parts.append(f"{model.model_id}: rows of one class say nothing.")
            continue
        parts.append(_importance_plot(model, plot_name("importance", place, report.models)))
        parts.append(_importance_table(model))
    return Section("Features", tuple(parts))


def _importance_plot(model: Evaluation, name: str) -> Plot:
    importance = model.permutation_importance
    assert importance is not None
    features = importance.features[:_SHOWN][::-1]

    def draw(axes: Any) -> None:
        axes.barh(
            range(len(features)),
            [f.loss for f in features],
            xerr=[f.deviation for f in features],
            color=SERIES[0],
            error_kw={"lw": 0.8},
        )
        axes.set_yticks(range(len(features)), [drawn(f.feature) for f in features])
        axes.axvline(0, color="#555555", lw=0.7)
        axes.grid(visible=False, axis="y")
        axes.set(xlabel="average precision lost", ylabel="feature", title=drawn(model.model_id))

    caption = (
        f"{importance.repeats} shuffles of {importance.rows:,} rows with {importance.frauds:,} "
        f"frauds (seed {importance.seed}), on which average precision is "
        f"{importance.average_precision:.3f}; bars: standard deviation."
    )
    return plot(name, caption, draw, width=5.0, height=1.0 + 0.2 * len(features))


def _importance_table(model: Evaluation) -> Table:
    importance, native = model.permutation_importance, model.native_importance
    assert importance is not None
    own = dict(native.features) if native else {}
    columns = ("feature", "lost", "deviation")
    left = len(importance.features) - _SHOWN
    caption = f"{model.model_id}." + (f" Its own: {native.what}." if native else "")
    caption += f" {left} more are worth less (a report that ends in .json has them)." * (left > 0)
    return Table(
        (*columns, "its own") if native else columns,
        tuple(
            (
                *(f.feature, f"{f.loss:.4f}", f"{f.deviation:.4f}"),
                *((f"{own[f.feature]:.4f}",) if native else ()),
            )
            for f in importance.features[:_SHOWN]
        ),
        caption,
    )


def numbered(models: Sequence[Evaluation], start: int, count: int) -> str:
    """Return the end of a caption that explains model numbers; empty for one model."""
    if len(models) == 1:
        return ""
    shown = enumerate(models[start : start + count], start + 1)
    return f" {'; '.join(f'({number}) {model.model_id}' for number, model in shown)}."

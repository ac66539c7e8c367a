"""The section on days."""

from __future__ import annotations

from typing import Any

from beam_fraud.evaluation.charts.figure import FRAUD, GENUINE, Plot, legend_below, plot
from beam_fraud.evaluation.charts.page import Part, Section, Table
from beam_fraud.evaluation.evaluation import Evaluation, Report
from beam_fraud.evaluation.report.naming import drawn, numbered, plot_name

#: Maximum of days in a table.
_MOST_DAYS = 62
#: Models per table: more make it wider than a page.
_ABREAST = 2


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
            parts.append(_plot(model, plot_name("days", place, report.models)))
    if len(report.models[0].days) <= _MOST_DAYS:
        parts += [_table(report, cards, start) for start in range(0, len(report.models), _ABREAST)]
    return Section("Days", tuple(parts))


def _plot(model: Evaluation, name: str) -> Plot:
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


def _table(report: Report, cards: bool, start: int) -> Table:
    shown = report.models[start : start + _ABREAST]
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
    caption = f"Days in {report.timezone}.{numbered(report.models, start, _ABREAST)}"
    if cards:
        caption += f" cards@{report.cards} is card precision@{report.cards}."
    return Table(tuple(columns), tuple(rows), caption)

"""The section of what a team would have seen each day."""

from __future__ import annotations

from typing import Any

from beam_fraud.charts.figure import FRAUD, GENUINE, Plot, plot
from beam_fraud.charts.page import Part, Section, Table
from beam_fraud.evaluation.evaluation import Evaluation, Report
from beam_fraud.evaluation.report.naming import drawn, plot_name

#: Days that a table may have.
_MOST_DAYS = 62


def daily_section(report: Report) -> Section:
    """Alerts, what they caught and card precision, day by day."""
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
        parts.append(_table(report, cards))
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
        axes.set(title=drawn(model.model_id), ylabel="rows")
        axes.margins(x=0.02)
        # Room for the legend above the bars.
        axes.set_ylim(top=axes.get_ylim()[1] * 1.3)
        axes.grid(visible=False, axis="x")
        axes.legend(fontsize=7.5)

    return plot(name, "Frauds and false alarms by day.", draw, width=5.2, height=3.2)


def _table(report: Report, cards: bool) -> Table:
    several = len(report.models) > 1
    columns = ["day", "rows", "frauds"]
    for number, _ in enumerate(report.models, 1):
        mark = f" ({number})" if several else ""
        figures = ["alerts", "caught", "precision", *([f"cards@{report.cards}"] if cards else [])]
        columns += [f"{figure}{mark}" for figure in figures]
    rows: list[tuple[str | int | float | None, ...]] = []
    for days in zip(*(model.days for model in report.models), strict=True):
        cells: list[str | int | float | None] = [days[0].date, days[0].rows, days[0].frauds]
        for day in days:
            cells += [day.alerts, day.caught, day.precision]
            cells += [day.card_precision] if cards else []
        rows.append(tuple(cells))
    models = "; ".join(f"({n}) {model.model_id}" for n, model in enumerate(report.models, 1))
    caption = f"Days in {report.timezone}." + (f" {models}." if several else "")
    if cards:
        caption += f" cards@{report.cards} is card precision@{report.cards}."
    return Table(tuple(columns), tuple(rows), caption)

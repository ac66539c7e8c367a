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
        if len(model.days) <= _MOST_DAYS:
            parts.append(_table(model, report, cards))
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
        step = max(1, len(days) // 10)
        axes.set_xticks(places[::step], [day.date[5:] for day in days[::step]])
        axes.set(title=drawn(model.model_id), ylabel="rows")
        axes.margins(x=0.02)
        # Room for the legend above the bars.
        axes.set_ylim(top=axes.get_ylim()[1] * 1.3)
        axes.grid(visible=False, axis="x")
        axes.legend(fontsize=7.5)

    return plot(name, "Frauds and false alarms by day.", draw, width=5.2, height=3.2)


def _table(model: Evaluation, report: Report, cards: bool) -> Table:
    columns = ("day", "rows", "frauds", "alerts", "caught", "precision")
    return Table(
        (*columns, f"card precision@{report.cards}") if cards else columns,
        tuple(
            (
                *(day.date, day.rows, day.frauds, day.alerts, day.caught, day.precision),
                *((day.card_precision,) if cards else ()),
            )
            for day in model.days
        ),
        f"{model.model_id}, days in {report.timezone}.",
    )

"""The section on importances of features."""

from __future__ import annotations

from typing import Any

from beam_fraud.evaluation.charts.figure import SERIES, Plot, plot
from beam_fraud.evaluation.charts.page import Part, Section, Table
from beam_fraud.evaluation.evaluation import Evaluation, Report
from beam_fraud.evaluation.report.naming import drawn, plot_name

#: Maximum of features in a plot and a table.
_SHOWN = 20


def importance_section(report: Report) -> Section:
    """Return the section: permutation importances, and the models' own."""
    parts: list[Part] = [
        "How much average precision is lost where the values of a feature are shuffled among the "
        "rows. Features that stand for each other all look worth little."
    ]
    for place, model in enumerate(report.models):
        found = model.permutation_importance
        if found is None:
            parts.append(f"{model.model_id}: rows of one class say nothing.")
            continue
        parts.append(_plot(model, plot_name("importance", place, report.models)))
        parts.append(_table(model))
    return Section("Features", tuple(parts))


def _plot(model: Evaluation, name: str) -> Plot:
    found = model.permutation_importance
    assert found is not None
    features = found.features[:_SHOWN][::-1]

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
        f"{found.repeats} shuffles of {found.rows:,} rows with {found.frauds:,} frauds (seed "
        f"{found.seed}), on which average precision is {found.average_precision:.3f}; bars: "
        "standard deviation."
    )
    return plot(name, caption, draw, width=5.0, height=1.0 + 0.2 * len(features))


def _table(model: Evaluation) -> Table:
    found, native = model.permutation_importance, model.native_importance
    assert found is not None
    own = dict(native.features) if native else {}
    columns = ("feature", "lost", "deviation")
    left = len(found.features) - _SHOWN
    caption = f"{model.model_id}." + (f" Its own: {native.what}." if native else "")
    caption += f" {left} more are worth less (a report that ends in .json has them)." * (left > 0)
    return Table(
        (*columns, "its own") if native else columns,
        tuple(
            (
                *(f.feature, f"{f.loss:.4f}", f"{f.deviation:.4f}"),
                *((f"{own[f.feature]:.4f}",) if native else ()),
            )
            for f in found.features[:_SHOWN]
        ),
        caption,
    )

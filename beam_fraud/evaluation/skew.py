"""The page of a skew: which columns of two archives differ, how often, how far and when."""

from __future__ import annotations

from typing import Any

import numpy as np

from beam_fraud.evaluation.charts import (
    FRAUD,
    GENUINE,
    Notice,
    Part,
    Plot,
    Section,
    Table,
    drawn,
    percent,
    plot,
    visible,
)
from beam_fraud.monitoring.skew import ColumnSkew, Skew

#: Columns in the plot; the table has all.
_DRAWN = 25


def skew_sections(skew: Skew) -> list[Section]:
    """Return the sections of the page in order."""
    return [
        Section("What differs", _columns(skew)),
        Section("Days", _days(skew)),
        Section("What was compared", _compared(skew)),
    ]


def skew_sentence(skew: Skew) -> str:
    """Return the result in a sentence."""
    if not skew.pairs:
        return "No transaction is in both archives: nothing was compared."
    if not skew.rows_differ:
        return f"All {skew.pairs:,} transactions that both archives have agree in every column."
    named = [visible(one.name) for one in skew.columns if one.differ][:3]
    return (
        f"{skew.rows_differ:,} of {skew.pairs:,} transactions that both archives have differ "
        f"({percent(skew.rows_differ / skew.pairs)}), most often in {', '.join(named)}."
    )


def skew_remarks(skew: Skew) -> list[str]:
    """Return what was not compared, and why."""
    remarks = []
    alone = skew.only_in_first + skew.only_in_second
    if alone:
        remarks.append(
            f"{skew.only_in_first:,} transactions are in the first archive alone and "
            f"{skew.only_in_second:,} in the second alone, within the time that both have."
        )
    if skew.other_models:
        remarks.append(
            f"{skew.other_models:,} pairs were decided by different models: their scores and "
            "decisions are not compared, their common features are."
        )
    if skew.without_features:
        remarks.append(
            f"{skew.without_features:,} pairs keep no features on one side: run both with "
            "--keep-features."
        )
    for where, names in (("first", skew.features_of_first), ("second", skew.features_of_second)):
        if names:
            shown = ", ".join(map(visible, names[:5])) + (", ..." if len(names) > 5 else "")
            remarks.append(f"{len(names):,} features are in the {where} archive alone: {shown}.")
    return remarks


def _columns(skew: Skew) -> tuple[Part, ...]:
    differs = skew.rows_differ > 0 or not skew.pairs
    parts: list[Part] = [Notice(skew_sentence(skew), warning=differs)]
    parts += [Notice(remark, warning=True) for remark in skew_remarks(skew)]
    changed = [column for column in skew.columns if column.differ]
    if changed:
        parts.append(_shares(changed[:_DRAWN]))
    rows = tuple(
        (
            visible(one.name),
            one.kind,
            one.compared,
            one.differ,
            percent(one.share),
            one.missing_in_first,
            one.missing_in_second,
            one.mean,
            one.largest,
            one.first,
            one.second,
        )
        for one in skew.columns
    )
    columns = (
        *("column", "kind", "compared", "differ", "share", "missing in first"),
        *("missing in second", "mean difference", "largest", "its first", "its second"),
    )
    return (*parts, Table(columns, rows))


def _shares(columns: list[ColumnSkew]) -> Plot:
    shown = list(reversed(columns))

    def draw(axes: Any) -> None:
        axes.barh(range(len(shown)), [100 * one.share for one in shown], color=GENUINE)
        axes.set_yticks(range(len(shown)), [drawn(one.name) for one in shown])
        axes.set_xlabel("pairs that differ, %")
        axes.grid(axis="y", visible=False)

    caption = "Share of pairs that differ, of each column with any."
    return plot("columns", caption, draw, width=9.5, height=1.2 + 0.22 * len(shown))


def _days(skew: Skew) -> tuple[Part, ...]:
    if not skew.days:
        return ("There are no days that both archives have.",)
    days = np.array([one.day for one in skew.days], dtype="datetime64[D]")
    differ = [100 * one.differ / one.pairs if one.pairs else np.nan for one in skew.days]
    alone = [
        100
        * (one.only_in_first + one.only_in_second)
        / (one.pairs + one.only_in_first + one.only_in_second)
        for one in skew.days
    ]

    def draw(axes: Any) -> None:
        axes.plot(days, differ, "o-", color=FRAUD, linewidth=1.2, markersize=3, label="differ")
        axes.plot(
            days, alone, "o-", color=GENUINE, linewidth=1.2, markersize=3, label="in one alone"
        )
        axes.set_ylabel("transactions, %")
        axes.set_ylim(bottom=0)
        axes.tick_params(axis="x", labelrotation=30)
        axes.legend()

    caption = "Share of transactions by day (UTC) that differ, or that one archive alone has."
    return (plot("days", caption, draw, width=9.5, height=2.6),)


def _compared(skew: Skew) -> tuple[Part, ...]:
    rows: list[tuple[str, int | float | str | None]] = [
        ("first archive", visible(skew.first)),
        ("second archive", visible(skew.second)),
        ("time that both have", f"{skew.since} to {skew.until}" if skew.since else "none"),
        ("transactions in both", skew.pairs),
        ("in the first alone", skew.only_in_first),
        ("in the second alone", skew.only_in_second),
        ("rows outside that time, left out", skew.outside),
        ("repeated rows of a transaction, left out", skew.repeated),
        ("tolerance", skew.tolerance),
    ]
    return (
        Table(("what", "value"), tuple(rows)),
        "Two numbers differ if they are further apart than the tolerance, times the larger of them "
        "where that is above one. A missing value equals another missing value alone.",
    )

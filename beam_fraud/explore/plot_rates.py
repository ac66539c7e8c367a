"""Plots of the classes, and of the rate of frauds in groups of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from beam_fraud.charts.figure import FRAUD, GENUINE, Plot, plot
from beam_fraud.explore.balance import Balance
from beam_fraud.explore.plot_text import plot_number, plot_text
from beam_fraud.explore.rates import Rate

#: More groups than that are drawn as lines, and only some are named.
_MOST_BARS = 40
#: From which ratio of the highest rate to the one in the middle on a log scale shows both.
_LOG_FROM = 20
_UNLABELLED = "#9aa5b1"


def plot_balance(counted: Balance) -> Plot:
    """Rows of each class, on a log scale."""
    classes = [("genuine", counted.genuine, GENUINE), ("fraud", counted.frauds, FRAUD)]
    if counted.unlabelled:
        classes.append(("no label", counted.unlabelled, _UNLABELLED))

    def draw(axes: Any) -> None:
        names, counts, colours = zip(*classes, strict=True)
        axes.barh(names, [max(count, 0.5) for count in counts], color=colours, height=0.6)
        axes.set_xscale("log")
        axes.set_xlim(0.5, max(counts) * 12)
        axes.xaxis.set_major_formatter(lambda value, _: plot_number(value))
        for place, count in enumerate(counts):
            axes.text(max(count, 0.5) * 1.15, place, f"{count:,}", va="center")
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.set_xlabel("rows (log scale)")
        axes.set_ylabel("class")

    return plot("class_balance", "Rows of each class; the scale is logarithmic.", draw, height=1.7)


def plot_rates(name: str, what: str, groups: Sequence[Rate], width: float = 5.0) -> Plot:
    """The rate of each group with its interval, and how many rows it has.

    Args:
      name: of the plot.
      what: what groups are, for captions and the axis.
      groups: in order, at least one.
      width: in inches.
    """
    labelled = any(group.labelled for group in groups)
    rotated = sum(len(group.group) for group in groups) > 10 * width
    caption = f"Rows by {what}."
    if labelled:
        caption = f"Share of frauds by {what}, with 95 % intervals (Wilson), and the rows."

    def draw(axes: Any) -> None:
        top, bottom = axes if labelled else (None, axes)
        if top is not None:
            _draw_rates(top, groups)
            top.tick_params(labelbottom=False)
        _draw_rows(bottom, groups)
        places, names = _ticks(groups)
        bottom.set_xticks(places, names, **({"rotation": 60, "ha": "right"} if rotated else {}))
        bottom.set_xlabel(what)
        if top is not None:
            top.set_xticks(places)
            top.set_xlim(bottom.get_xlim())

    height = (3.4 if labelled else 1.9) + (0.5 if rotated else 0.0)
    return plot(name, caption, draw, width=width, height=height, rows=2 if labelled else 1)


def _draw_rates(axes: Any, groups: Sequence[Rate]) -> None:
    places = np.array([place for place, group in enumerate(groups) if group.labelled])
    rate, low, high = (
        np.array([getattr(groups[place], side) for place in places], dtype=np.float64)
        for side in ("rate", "low", "high")
    )
    axes.set_ylabel("share of frauds")
    if len(groups) <= _MOST_BARS:
        # Rounding may put the rate a little outside of its interval.
        ends = np.maximum(np.stack((rate - low, high - rate)), 0.0)
        axes.errorbar(places, rate, ends, fmt="o", ms=4, color=FRAUD, lw=1.2)
    else:
        axes.fill_between(places, low, high, color=FRAUD, alpha=0.2, lw=0)
        axes.plot(places, rate, color=FRAUD, lw=1)
    # A group of a few rows has an interval that would hide all the others.
    axes.set_ylim(0, _top(rate, high))
    if rate.max() > _LOG_FROM * np.median(rate) > 0:
        axes.set_yscale("log")
        axes.set_ylim(rate[rate > 0].min() / 3, min(1.5 * high.max(), 1.2))
        axes.set_ylabel("share of frauds (log)")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")


def _top(rate: Any, high: Any) -> float:
    largest = float(rate.max())
    return min(float(high.max()), max(2.5 * largest, float(np.median(high)))) * 1.05 or 1.0


def _draw_rows(axes: Any, groups: Sequence[Rate]) -> None:
    counts = [group.rows for group in groups]
    if len(groups) <= _MOST_BARS:
        axes.bar(range(len(groups)), counts, color=GENUINE, width=0.75)
    else:
        axes.fill_between(range(len(groups)), counts, color=GENUINE, step="mid", lw=0)
    axes.set_ylim(0, max(max(counts), 1) * 1.05)
    axes.yaxis.set_major_formatter(lambda value, _: plot_number(value))
    axes.set_ylabel("rows")


def _ticks(groups: Sequence[Rate]) -> tuple[list[int], list[str]]:
    step = 1 if len(groups) <= 20 else 3 if len(groups) <= _MOST_BARS else len(groups) // 8
    places = list(range(0, len(groups), step))
    return places, [plot_text(groups[place].group, 18) for place in places]

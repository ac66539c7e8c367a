"""The plots of an exploration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np

from beam_fraud.evaluation.charts import FRAUD, GENUINE, Plot, drawn, plot
from beam_fraud.evaluation.explore.correlation import Correlation
from beam_fraud.evaluation.explore.counts import Balance
from beam_fraud.evaluation.explore.features import Distribution, Separation
from beam_fraud.evaluation.explore.rows import Rate

#: Maximum of characters of a name beside a plot.
_LONGEST = 30


def plot_number(value: float) -> str:
    """Return a short form of a number for an axis.

    Example:
      >>> plot_number(12500.0), plot_number(0.25), plot_number(3e6)
      ('12.5k', '0.25', '3M')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}" if abs(value) < 1e12 else f"{value:.1e}"
    return f"{value:.3g}"


#: Maximum of readable names.
MOST_NAMES = 40


def plot_correlation(together: Correlation, names: list[str]) -> Plot:
    """Plot the coefficients of at most `MOST_NAMES` names."""
    places = [together.names.index(name) for name in names]
    matrix = np.array(
        [[together.coefficients[one][other] for other in places] for one in places],
        dtype=np.float64,
    )
    side = max(3.2, 0.21 * len(names) + 1.6)
    labels = [drawn(name, _LONGEST) for name in names]
    size = 8 if len(names) <= 25 else 7

    def draw(axes: Any) -> None:
        axes.set_facecolor("#cccccc")
        mesh = axes.pcolormesh(np.ma.masked_invalid(matrix), cmap="RdBu_r", vmin=-1, vmax=1)
        middles = np.arange(len(names)) + 0.5
        axes.set_xticks(middles, labels, rotation=90, fontsize=size)
        axes.set_yticks(middles, labels, fontsize=size)
        axes.set(xlabel="feature", ylabel="feature")
        axes.invert_yaxis()
        axes.grid(False)
        axes.tick_params(length=0)
        bar = axes.figure.colorbar(mesh, ax=axes, shrink=0.6, aspect=30, pad=0.02)
        bar.set_label("rank correlation")
        # As an image it would be a link in the page.
        bar.solids.set_rasterized(False)

    rows = f"{together.rows:,} rows, evenly over all"
    return plot(
        "correlation",
        f"Spearman's rank correlation, of {rows}. An absent value takes the mean rank; grey does "
        "not vary.",
        draw,
        width=min(side + 1.2, 10.3),
        height=side,
    )


_COLUMNS = 5
#: Maximum of panels per plot, to limit its height.
_PANELS = 20
_WIDTH, _HEIGHT = 2.05, 1.5
_UNLABELLED, _FAINT = "#9aa5b1", "#64748b"


def plot_distributions(spread: Sequence[Distribution]) -> list[Plot]:
    """Plot the share of each class in the bins of each feature, in several plots."""
    pages = [spread[start : start + _PANELS] for start in range(0, len(spread), _PANELS)]
    return [_page(page, number, len(pages)) for number, page in enumerate(pages, 1)]


def _page(spread: Sequence[Distribution], number: int, pages: int) -> Plot:
    rows = -(-len(spread) // _COLUMNS)
    height = rows * _HEIGHT + 0.45

    def draw(axes: Any) -> None:
        panels = np.ravel(axes)
        drawing = panels[0].figure
        # Skip automatic layout, which is slow for many equal panels.
        with matplotlib.rc_context({"figure.constrained_layout.use": False}):
            drawing.set_layout_engine(None)
        drawing.subplots_adjust(
            0.01, 0.3 / height, 0.99, 1 - 0.55 / height, wspace=0.12, hspace=0.62
        )
        for panel, one in zip(panels, spread, strict=False):
            _draw(panel, one)
        for panel in panels[len(spread) :]:
            panel.set_axis_off()
        lines = [(c, n) for c, n, count in _classes(spread[0]) if any(map(sum, _counts(spread, n)))]
        handles = [panels[0].plot([], [], color=colour, lw=5, label=n)[0] for colour, n in lines]
        drawing.legend(handles=handles, loc="upper left", ncols=3, borderaxespad=0.1)

    several = f" ({number} of {pages})" if pages > 1 else ""
    return plot(
        f"distributions_{number}" if pages > 1 else "distributions",
        "Share of each class by the value of a feature; the highest bin of a panel is as high as "
        "the panel. Bins at the ends hold what lies beyond them; all rows are counted. A log axis "
        "is one on both sides of zero, and linear about it."
        f"{several}",
        draw,
        width=_COLUMNS * _WIDTH,
        height=height,
        rows=rows,
        columns=_COLUMNS,
    )


def _classes(one: Distribution) -> list[tuple[str, str, tuple[int, ...]]]:
    return [
        (_UNLABELLED, "no label", one.unlabelled),
        (GENUINE, "genuine", one.genuine),
        (FRAUD, "fraud", one.frauds),
    ]


def _counts(spread: Sequence[Distribution], name: str) -> list[tuple[int, ...]]:
    return [counts for one in spread for _, n, counts in _classes(one) if n == name]


def _draw(panel: Any, one: Distribution) -> None:
    bins = len(one.genuine)
    edges = np.arange(bins + 1)
    highest = 0.0
    for colour, _, counts in _classes(one):
        total = sum(counts)
        if total:
            shares = np.array(counts) / total
            highest = max(highest, float(shares.max()))
            panel.stairs(shares, edges, fill=True, color=colour, alpha=0.28)
            panel.stairs(shares, edges, color=colour, lw=1.1)
    panel.set_ylim(0, highest * 1.05 or 1.0)
    panel.set_xlim(0, bins)
    panel.set_yticks([])
    panel.grid(False)
    panel.spines["left"].set_visible(False)
    panel.set_title(drawn(one.feature, _LONGEST), fontsize=8, loc="left", pad=3)
    if one.scale == "log":
        panel.set_xlabel("log axis", fontsize=7, color=_FAINT, labelpad=1)
    places, values = _value_ticks(one)
    panel.set_xticks(places, [plot_number(value) for value in values], fontsize=7)
    panel.tick_params(length=2, pad=1)
    for label, side in zip(panel.get_xticklabels(), _sides(len(places)), strict=True):
        label.set_ha(side)


def _value_ticks(one: Distribution) -> tuple[list[float], list[float]]:
    """Return positions of ticks, and their values."""
    bins = len(one.genuine)
    if one.scale == "values":
        shown = sorted({round(place) for place in np.linspace(0, bins - 1, min(bins, 3))})
        return [place + 0.5 for place in shown], [one.edges[place] for place in shown]
    shown = [0, bins // 2, bins]
    return list(shown), [one.edges[place] for place in shown]


def _sides(count: int) -> list[str]:
    return ["left", "center", "right"] if count == 3 else ["center"] * count


#: Maximum of groups drawn as bars; more are drawn as lines with some names.
_MOST_BARS = 40
#: Ratio of the highest to the median rate from which a log scale is used.
_LOG_FROM = 20


def plot_balance(counted: Balance) -> Plot:
    """Plot the rows of each class on a log scale."""
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
    """Plot the rate of each group with its interval, and its rows.

    Args:
      name: name of the plot.
      what: description of the groups, for captions and the axis.
      groups: groups in order, at least one.
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
        # Rounding may put the rate slightly outside its interval.
        ends = np.maximum(np.stack((rate - low, high - rate)), 0.0)
        axes.errorbar(places, rate, ends, fmt="o", ms=4, color=FRAUD, lw=1.2)
    else:
        axes.fill_between(places, low, high, color=FRAUD, alpha=0.2, lw=0)
        axes.plot(places, rate, color=FRAUD, lw=1)
    # The interval of a tiny group would hide all others.
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
    return places, [drawn(groups[place].group, 18) for place in places]


_MOST = 20


def plot_separation(separations: Sequence[Separation], rate: float) -> Plot:
    """Plot average precision and ROC AUC of the best single features.

    Args:
      separations: features, best first, at least one.
      rate: average precision of random scores.
    """
    shown = separations[:_MOST]
    names = [drawn(one.feature, _LONGEST) for one in shown]

    def draw(axes: Any) -> None:
        left, right = axes
        places = range(len(shown))
        left.barh(places, [one.average_precision for one in shown], color=FRAUD, height=0.65)
        left.axvline(rate, color="#1d2733", lw=1, ls=":")
        left.set_xlabel("average precision (dotted: random)")
        right.barh(places, [one.roc_auc for one in shown], color=GENUINE, height=0.65)
        right.set_xlim(0.5, 1)
        right.set_xlabel("ROC AUC")
        left.set_yticks(places, names)
        left.set_ylabel("feature")
        right.set_yticks(places, [""] * len(shown))
        for side in axes:
            side.invert_yaxis()
            side.grid(False, axis="y")
            side.tick_params(axis="y", length=0)

    return plot(
        "separation",
        f"The {len(shown)} features that tell fraud from genuine best, each alone.",
        draw,
        width=9.0,
        height=1.0 + 0.22 * len(shown),
        columns=2,
    )

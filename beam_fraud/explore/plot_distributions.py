"""Small plots of how features are spread, a panel each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np

from beam_fraud.charts.figure import FRAUD, GENUINE, Plot, plot
from beam_fraud.explore.distributions import Distribution
from beam_fraud.explore.plot_text import plot_number, plot_text

_COLUMNS = 5
#: Panels of a plot, so that none is taller than a screen or two.
_PANELS = 20
_WIDTH, _HEIGHT = 2.05, 1.5
_UNLABELLED, _FAINT = "#9aa5b1", "#64748b"


def plot_distributions(spread: Sequence[Distribution]) -> list[Plot]:
    """Share of each class in the bins of each feature; as many plots as are needed."""
    pages = [spread[start : start + _PANELS] for start in range(0, len(spread), _PANELS)]
    return [_page(page, number, len(pages)) for number, page in enumerate(pages, 1)]


def _page(spread: Sequence[Distribution], number: int, pages: int) -> Plot:
    rows = -(-len(spread) // _COLUMNS)
    height = rows * _HEIGHT + 0.45

    def draw(axes: Any) -> None:
        panels = np.ravel(axes)
        drawing = panels[0].figure
        # Panels are alike: there is nothing to lay out, which takes long for many.
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
    panel.set_title(plot_text(one.feature), fontsize=8, loc="left", pad=3)
    if one.scale == "log":
        panel.set_xlabel("log axis", fontsize=7, color=_FAINT, labelpad=1)
    places, values = _ticks(one)
    panel.set_xticks(places, [plot_number(value) for value in values], fontsize=7)
    panel.tick_params(length=2, pad=1)
    for label, side in zip(panel.get_xticklabels(), _sides(len(places)), strict=True):
        label.set_ha(side)


def _ticks(one: Distribution) -> tuple[list[float], list[float]]:
    """Places of bins, and the values there."""
    bins = len(one.genuine)
    if one.scale == "values":
        shown = sorted({round(place) for place in np.linspace(0, bins - 1, min(bins, 3))})
        return [place + 0.5 for place in shown], [one.edges[place] for place in shown]
    shown = [0, bins // 2, bins]
    return list(shown), [one.edges[place] for place in shown]


def _sides(count: int) -> list[str]:
    return ["left", "center", "right"] if count == 3 else ["center"] * count

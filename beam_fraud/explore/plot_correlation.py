"""The heat map of correlations."""

from __future__ import annotations

from typing import Any

import numpy as np

from beam_fraud.charts.figure import Plot, plot
from beam_fraud.explore.correlation import Correlation
from beam_fraud.explore.plot_text import plot_text

#: Names whose labels can still be read.
MOST_NAMES = 40


def plot_correlation(together: Correlation, names: list[str]) -> Plot:
    """Coefficients between some of the names, at most `MOST_NAMES`."""
    places = [together.names.index(name) for name in names]
    matrix = np.array(
        [[together.coefficients[one][other] for other in places] for one in places],
        dtype=np.float64,
    )
    side = max(3.2, 0.21 * len(names) + 1.6)
    labels = [plot_text(name) for name in names]
    size = 8 if len(names) <= 25 else 7

    def draw(axes: Any) -> None:
        axes.set_facecolor("#cccccc")
        drawn = axes.pcolormesh(np.ma.masked_invalid(matrix), cmap="RdBu_r", vmin=-1, vmax=1)
        middles = np.arange(len(names)) + 0.5
        axes.set_xticks(middles, labels, rotation=90, fontsize=size)
        axes.set_yticks(middles, labels, fontsize=size)
        axes.invert_yaxis()
        axes.grid(False)
        axes.tick_params(length=0)
        bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.6, aspect=30, pad=0.02)
        bar.set_label("rank correlation")
        # As an image it would be an address in the page.
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

"""Which features tell the classes apart best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from beam_fraud.charts.figure import FRAUD, GENUINE, Plot, plot
from beam_fraud.explore.plot_text import plot_text
from beam_fraud.explore.separation import Separation

_MOST = 20


def plot_separation(found: Sequence[Separation], rate: float) -> Plot:
    """Average precision and ROC AUC of the best features, each alone.

    Args:
      found: best first, at least one.
      rate: average precision of random scores.
    """
    shown = found[:_MOST]
    names = [plot_text(one.feature) for one in shown]

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

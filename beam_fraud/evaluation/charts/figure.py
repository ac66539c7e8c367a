"""Draw plots as SVG and PNG, without a display."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure as Drawing

#: Colours of genuine and fraud in every plot, distinct for red-green blindness.
GENUINE, FRAUD = "#3b75af", "#d1493f"
#: Colours of models, in order; they also differ in lightness.
SERIES = ("#3b75af", "#e1812c", "#3a923a", "#845b97", "#8d6a5c", "#d684bd", "#7f7f7f", "#a9a92b")
#: Length from which each label of a legend has its own line.
_LONG_LABEL = 24
#: Maximum of characters of a value from a data set, and of a name beside a plot.
_LONGEST_VALUE, _LONGEST_NAME = 60, 40
#: Dots per inch of PNG files.
_DOTS = 130
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Plot:
    """A plot and its caption."""

    #: Name of its PNG file, without the ending: lower case and underscores, unique on a page.
    name: str
    #: A sentence on its content, also as alternative text.
    caption: str
    #: Draws it.
    drawing: Drawing

    def svg(self) -> str:
        """Return the plot as an SVG element; equal data give equal bytes."""
        text = io.StringIO()
        # Make ids unique: pages contain many plots.
        with matplotlib.rc_context({**_STYLE, "svg.hashsalt": self.name}):
            self.drawing.savefig(text, format="svg", metadata={"Date": None})
        element = text.getvalue()[text.getvalue().index("<svg") :]
        # Remove attributes for readers of SVG files: they contain addresses, and pages need
        # neither.
        element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
        return re.sub(r' xmlns(:xlink)?="[^"]*"', "", element)

    def save_png(self, directory: Path) -> Path:
        """Write `<name>.png` to an existing directory; return its path."""
        path = directory / f"{self.name}.png"
        with matplotlib.rc_context(_STYLE):
            self.drawing.savefig(path, format="png", dpi=_DOTS)
        return path


def plot(
    name: str,
    caption: str,
    draw: Callable[[Any], None],
    *,
    width: float = 6.0,
    height: float = 3.2,
    rows: int = 1,
    columns: int = 1,
) -> Plot:
    """Draw a plot.

    Args:
      name: see `Plot`.
      caption: see `Plot`.
      draw: receives the axes, or an array of axes if there are several rows or columns.
      width: in inches; a page is about ten wide.
      height: in inches.
      rows: rows of axes.
      columns: columns of axes.
    """
    with matplotlib.rc_context(_STYLE):
        drawing = Drawing(figsize=(width, height))
        draw(drawing.subplots(rows, columns))
        return Plot(name, caption, drawing)


def legend_below(axes: Any) -> None:
    """Put the legend below all axes, where it covers none."""
    handles, labels = axes.get_legend_handles_labels()
    widest = max(map(len, labels), default=0)
    axes.figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=1 if widest > _LONG_LABEL else min(len(labels), 3),
        fontsize=7.5,
    )


def visible(text: str) -> str:
    """Return an untrusted text for a line: without invisible characters, and short.

    Example:
      >>> visible("a" + chr(8238) + "b")
      'a\\ufffdb'
    """
    shown = "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:_LONGEST_VALUE]
    )
    return shown + "\N{HORIZONTAL ELLIPSIS}" if len(text) > _LONGEST_VALUE else shown


def drawn(name: str, longest: int = _LONGEST_NAME) -> str:
    """Return a name for Matplotlib: bounded, visible, and without formulas.

    A long name keeps both ends, in which computed features differ.

    Example:
      >>> drawn("_$x$"), drawn("amount_1d_max", 9)
      (' _\\\\$x\\\\$', 'amou\u2026_max')
    """
    if len(name) > longest:
        half = (longest - 1) // 2
        name = f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-(longest - 1 - half) :]}"
    shown = visible(name)
    # Dollars enclose formulas, and legends leave out what starts with an underscore.
    return (" " if shown.startswith("_") else "") + shown.replace("$", r"\$")

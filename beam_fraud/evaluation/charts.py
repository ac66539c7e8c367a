"""Plots, and reports that hold them, each one self-contained HTML file."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment
from markupsafe import Markup, escape
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
#: Length from which words of a table may break, after joining marks or anywhere.
_LONG_WORD = 17
_PIECES = re.compile(r"[^@_/]{1,24}[@_/]*|[@_/]{1,24}")
#: Decimals of columns of fractions up to one, unless all are smaller than this.
_SMALL = 0.1
#: Pattern of numbers in text, such as a share.
_NUMBER = re.compile(r"[-+]?[\d,.]+(e-?\d+)?( %)?")


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


def visible(text: str, longest: int = _LONGEST_VALUE) -> str:
    """Return an untrusted text for a line: without invisible characters, and short.

    Example:
      >>> visible("a" + chr(8238) + "b")
      'a\\ufffdb'
    """
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:longest])
    return shown + "\N{HORIZONTAL ELLIPSIS}" if len(text) > longest else shown


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


@dataclass(frozen=True)
class Table:
    """A table with headings; numbers are aligned to the right."""

    #: Heading of each column.
    columns: tuple[str, ...]
    #: One cell per column; numbers are formatted by `texts`, None is a dash.
    rows: tuple[tuple[str | int | float | None, ...], ...]
    #: Caption, or empty.
    caption: str = ""

    def is_number(self, column: int) -> bool:
        """Return whether a column is aligned right: numbers, or text of shares and numbers."""
        cells = [row[column] for row in self.rows if row[column] is not None]
        return any(not isinstance(cell, str) for cell in cells) or (
            bool(cells) and all(_NUMBER.fullmatch(str(cell)) for cell in cells)
        )

    def texts(self) -> list[list[str]]:
        """Return the rows as text: fractions up to one with three decimals."""
        places = range(len(self.columns))
        fractions = [_are_fractions([row[place] for row in self.rows]) for place in places]
        return [
            [
                f"{cell:.3f}"
                if alike and isinstance(cell, float) and (cell == 0 or abs(cell) >= 0.0005)
                else cell_text(cell)
                for cell, alike in zip(row, fractions, strict=True)
            ]
            for row in self.rows
        ]


@dataclass(frozen=True)
class Notice:
    """A highlighted paragraph."""

    #: Plain text.
    text: str
    #: Whether it warns.
    warning: bool = False


Part = str | Table | Plot | Notice


@dataclass(frozen=True)
class Section:
    """A heading with its contents: paragraphs of plain text, tables, plots."""

    #: The heading.
    title: str
    #: Contents in order.
    parts: tuple[Part, ...]

    @property
    def anchor(self) -> str:
        """Its link target."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower()).strip("-")


def render_page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Render an HTML page with embedded styles and plots.

    Every text is escaped, whatever the names of columns and values.

    Args:
      title: title of the page.
      subtitle: files, rows and time.
      sections: in order; each is in the table of contents.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    templates = files("beam_fraud.evaluation").joinpath("templates")
    source = templates.joinpath("page.html").read_text("utf-8")
    kinds = {"str": str, "Table": Table, "Plot": Plot, "Notice": Notice}
    environment.tests["of_kind"] = lambda part, kind: isinstance(part, kinds[kind])
    environment.filters["cell"] = _cell
    environment.filters["prose"] = _prose
    page = environment.from_string(source)
    return page.render(title=title, subtitle=subtitle, sections=list(sections)) + "\n"


def cell_text(cell: str | int | float | None) -> str:
    """Format a cell: integers with thousands separators, others with four significant digits."""
    if cell is None or cell != cell:
        return "\N{EN DASH}"
    if isinstance(cell, bool | str):
        return str(cell)
    if isinstance(cell, int) or (float(cell).is_integer() and abs(cell) < 1e15):
        return f"{int(cell):,}"
    return f"{cell:,.3f}" if 0.1 <= abs(cell) < 1e5 else f"{cell:.4g}"


def _are_fractions(cells: Sequence[str | int | float | None]) -> bool:
    """Return whether a column has only fractions up to one, not all small or whole."""
    values = [cell for cell in cells if cell is not None and cell == cell]
    sizes = [abs(value) for value in values if isinstance(value, float) and abs(value) <= 1]
    return (
        len(sizes) == len(values)
        and max(sizes, default=0) >= _SMALL
        and any(size % 1 for size in sizes)
    )


def percent(share: float | None) -> str | None:
    """Format a share in percent with three significant digits; from 99 % on, of the rest to 100 %.

    Example:
      >>> percent(0.00537), percent(0.157), percent(0.9), percent(0.99462), percent(0.0)
      ('0.537 %', '15.7 %', '90.0 %', '99.462 %', '0 %')
    """
    if share is None or math.isnan(share):
        return None
    least = abs(1 - share) if share > 0.99 else abs(share)
    digits = 0 if least < 1e-12 else max(0, 2 - math.floor(math.log10(100 * least)))
    return f"{100 * share:.{digits}f} %"


def _cell(text: str) -> Markup:
    """Convert text of a table to HTML; long names may break on narrow pages."""
    words = re.split(r"(\s+)", text)
    return Markup("").join(
        Markup("<wbr>").join(_PIECES.findall(word)) if len(word) >= _LONG_WORD else word
        for word in words
    )


def _prose(text: str) -> Markup:
    """Convert plain text to HTML; text between backticks becomes code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def save_plots(sections: Sequence[Section], directory: Path) -> list[Path]:
    """Save every plot of a report as a PNG file in `directory`, created if missing."""
    directory.mkdir(parents=True, exist_ok=True)
    return [
        part.save_png(directory)
        for section in sections
        for part in section.parts
        if isinstance(part, Plot)
    ]

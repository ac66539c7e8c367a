"""Reports as one HTML file that needs nothing from anywhere else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup, escape

from beam_fraud.charts.figure import Plot


@dataclass(frozen=True)
class Table:
    """Cells under headings; numbers stand to the right."""

    #: Heading of each column.
    columns: tuple[str, ...]
    #: A cell a column; a number is shown as `cell_text` does, None as a dash.
    rows: tuple[tuple[str | int | float | None, ...], ...]
    #: What it shows, or nothing.
    caption: str = ""


@dataclass(frozen=True)
class Notice:
    """A paragraph that the reader should not miss."""

    #: Plain text.
    text: str
    #: Whether it warns.
    warning: bool = False


Part = str | Table | Plot | Notice


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it: paragraphs of plain text, tables, plots."""

    #: The heading.
    title: str
    #: In order.
    parts: tuple[Part, ...]

    @property
    def anchor(self) -> str:
        """What a link to it says."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower()).strip("-")


def render_page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """One HTML page with its styles and plots inside it.

    Every text is escaped, whatever a data set's columns and values are called.

    Args:
      title: of the page.
      subtitle: what it is about: files, rows, when.
      sections: in order; each is in the table of contents.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    source = files("beam_fraud.charts").joinpath("templates/page.html").read_text("utf-8")
    kinds = {"str": str, "Table": Table, "Plot": Plot, "Notice": Notice}
    environment.tests["of_kind"] = lambda part, kind: isinstance(part, kinds[kind])
    environment.tests["number"] = lambda cell: isinstance(cell, int | float)
    environment.filters["cell"] = cell_text
    environment.filters["prose"] = _prose
    page = environment.from_string(source)
    return page.render(title=title, subtitle=subtitle, sections=list(sections)) + "\n"


def cell_text(cell: str | int | float | None) -> str:
    """A cell as text: whole numbers with thousands apart, others with four digits that count."""
    if cell is None or cell != cell:
        return "\N{EN DASH}"
    if isinstance(cell, bool | str):
        return str(cell)
    if isinstance(cell, int) or (float(cell).is_integer() and abs(cell) < 1e15):
        return f"{int(cell):,}"
    return f"{cell:,.3f}" if 0.1 <= abs(cell) < 1e5 else f"{cell:.4g}"


def _prose(text: str) -> Markup:
    """Plain text as HTML; what stands between backticks is code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def save_plots(sections: Sequence[Section], directory: Path) -> list[Path]:
    """Every plot of a report as a PNG file in `directory`, which is made if it is absent."""
    directory.mkdir(parents=True, exist_ok=True)
    return [
        part.save_png(directory)
        for section in sections
        for part in section.parts
        if isinstance(part, Plot)
    ]

"""Render reports as one self-contained HTML file."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup, escape

from beam_fraud.evaluation.charts.figure import Plot

#: Length from which words of a table may break, after joining marks or anywhere.
_LONG_WORD = 17
_PIECES = re.compile(r"[^@_/]{1,24}[@_/]*|[@_/]{1,24}")
#: Decimals of columns of fractions up to one, unless all are smaller than this.
_SMALL = 0.1
#: Pattern of numbers in text, such as a share.
_NUMBER = re.compile(r"[-+]?[\d,.]+(e-?\d+)?( %)?")


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
    templates = files("beam_fraud.evaluation.charts").joinpath("templates")
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

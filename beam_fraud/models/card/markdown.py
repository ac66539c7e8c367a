"""Names and values from outside as Markdown that can be nothing but text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from beam_fraud.monitoring.printable import printable

_ESCAPED = re.compile(r"([\\`*_{}\[\]()#!|~<>&])")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def plain(text: str) -> str:
    """Text that no Markdown or HTML is read from.

    Example:
      >>> plain("<b>a*b")
      '&lt;b&gt;a\\\\*b'
    """
    return _ESCAPED.sub(lambda m: _ENTITIES.get(m[1], "\\" + m[1]), printable(text, escaped=True))


def code(text: str) -> str:
    """Text as a code span, in a table or out of one.

    The fence is longer than any run of backticks within, and a vertical bar, which would end a
    cell of a table, stands as a broken one: in a code span nothing can be escaped.

    Example:
      >>> code("a`b")
      '``a`b``'
    """
    shown = printable(text, escaped=True).replace("|", "\u00a6")
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if shown[:1] in ("`", "", " ") or shown[-1:] in ("`", " ") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def bullets(values: Mapping[str, object]) -> str:
    """Return a line for each name and value."""
    return "\n".join(f"- {code(name)}: {plain(str(value))}" for name, value in values.items())


def figure(value: float | None) -> str:
    """Return a share with three digits."""
    return "-" if value is None else f"{value:.3f}"

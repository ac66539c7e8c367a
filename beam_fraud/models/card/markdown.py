"""Escape untrusted names and values for Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from beam_fraud.platform.wording import printable

_ESCAPED = re.compile(r"([\\`*_{}\[\]()#!|~<>&])")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def plain(text: str) -> str:
    """Escape text, so that it is neither Markdown nor HTML.

    Example:
      >>> plain("<b>a*b")
      '&lt;b&gt;a\\\\*b'
    """
    return _ESCAPED.sub(lambda m: _ENTITIES.get(m[1], "\\" + m[1]), printable(text, escaped=True))


def code(text: str) -> str:
    """Format text as a code span, valid inside a table too.

    The fence is longer than any run of backticks inside, and a broken bar replaces a vertical bar,
    which would end a table cell: a code span has no escapes.

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
    """Return a table of cells that are already Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def bullets(values: Mapping[str, object]) -> str:
    """Return a list item for each name and value."""
    return "\n".join(f"- {code(name)}: {plain(str(value))}" for name, value in values.items())


def figure(value: float | None) -> str:
    """Format a share with three digits."""
    return "-" if value is None else f"{value:.3f}"

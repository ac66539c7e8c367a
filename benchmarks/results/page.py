"""Format results as Markdown and write them into a page."""

from __future__ import annotations

from collections.abc import Sequence

from beam_fraud.errors import Code, FraudError
from benchmarks.results.lines import Column, Line, Section, verdicts


def markdown(section: Section) -> str:
    """Return a section of the page: its text, the table of figures, the table of targets."""
    head = ["", "seeds", *(column.heading for column in section.columns)]
    rows = [_row(line, section.columns) for line in section.lines]
    parts = [f"## {section.title}", section.text, _table(head, rows)]
    judged = [
        [line.model, verdict.target, verdict.measured, "met" if verdict.met else "**missed**"]
        for line in section.lines
        for verdict in verdicts(line, section.columns)
    ]
    if judged:
        parts.append(_table(["", "target", "measured", ""], judged))
    commands = [line.command for line in section.lines if line.command]
    if commands:
        parts.append("\n\n".join(f"```\n{command}\n```" for command in commands))
    return "\n\n".join(parts)


def replaced(page: str, sections: Sequence[Section]) -> str:
    """Return the page with these sections in place of those of the same keys.

    Args:
      page: Markdown; a section is between `<!-- results: KEY -->` and `<!-- end: KEY -->`.
      sections: the new sections.

    Raises:
      FraudError: the page lacks the markers of a section.
    """
    for section in sections:
        begin, end = (f"<!-- {word}: {section.key} -->" for word in ("results", "end"))
        before, opening, rest = page.partition(begin)
        _, closing, after = rest.partition(end)
        if not opening or not closing:
            raise FraudError(
                f"the page has no '{begin}' followed by '{end}'; add both lines",
                Code.INPUT_FORMAT,
            )
        page = f"{before}{begin}\n{markdown(section)}\n{end}{after}"
    return page


def _row(line: Line, columns: tuple[Column, ...]) -> list[str]:
    return [line.model, str(len(line.runs)), *(_cell(line, column) for column in columns)]


def _cell(line: Line, column: Column) -> str:
    mean = line.mean(column.name)
    if mean is None:
        return "-"
    spread = f" ± {column.text(line.spread(column.name))}" if len(line.runs) > 1 else ""
    published = line.published.get(column.name)
    beside = "" if published is None else f" (published {column.text(published)})"
    return f"{column.text(mean)}{spread}{beside}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

"""A report as bytes of a file: HTML, JSON or Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from beam_fraud.evaluation.charts import Notice, Part, Plot, Section, Table
from beam_fraud.evaluation.evaluation import Report
from beam_fraud.evaluation.report.sections import html_report, subtitle_of, title_of


def markdown_report(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Return a report as Markdown.

    Names of a data set are escaped, so that none becomes markup.

    Args:
      title: of the report.
      subtitle: what it is about.
      sections: sections in order; plots are left out.
    """
    blocks = [f"# {_plain(title)}", _plain(subtitle)]
    for section in sections:
        blocks.append(f"## {_plain(section.title)}")
        blocks += [block for part in section.parts if (block := _block(part))]
    return "\n\n".join(blocks) + "\n"


def _block(part: Part) -> str:
    if isinstance(part, Plot):
        return ""
    if isinstance(part, Notice):
        return f"> **{_plain(part.text)}**" if part.warning else f"> {_plain(part.text)}"
    if isinstance(part, Table):
        return _table(part)
    return _plain(part)


def _table(table: Table) -> str:
    numbers = [table.is_number(place) for place, _ in enumerate(table.columns)]
    lines = [
        _line(table.columns),
        "|" + "|".join("---:" if number else "---" for number in numbers) + "|",
        *map(_line, table.texts()),
    ]
    caption = f"{_plain(table.caption)}\n\n" if table.caption else ""
    return caption + "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_plain, cells)) + " |"


def _plain(text: str) -> str:
    """Escape text for Markdown, on one line."""
    one_line = re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text))
    return re.sub(r"([\\`*_\[\]<>|~&#!$])", r"\\\1", one_line).strip()


def json_report(report: Report) -> bytes:
    """Return a report as JSON; undefined figures are null."""
    encoded = msgspec.json.encode(report, enc_hook=_encoded)
    return msgspec.json.format(encoded, indent=1) + b"\n"


def _encoded(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"no JSON for {type(value).__name__}")


def report_bytes(report: Report, sections: tuple[Section, ...], ending: str) -> bytes:
    """Encode a report.

    Args:
      report: the report.
      sections: its sections of `sections_of`.
      ending: `.html`, `.json` or `.md`.
    """
    if ending == ".json":
        return json_report(report)
    if ending == ".md":
        return markdown_report(title_of(report), subtitle_of(report), sections).encode()
    return html_report(report, sections).encode()

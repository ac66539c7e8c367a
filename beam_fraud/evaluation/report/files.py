"""Encode a report by the ending of its file name."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from beam_fraud.evaluation.charts.page import Section
from beam_fraud.evaluation.evaluation import Report
from beam_fraud.evaluation.report.markdown import markdown_report
from beam_fraud.evaluation.report.sections import html_report, subtitle_of, title_of


def json_report(report: Report) -> bytes:
    """Return a report as JSON; undefined figures are null."""
    encoded = msgspec.json.encode(report, enc_hook=_plain)
    return msgspec.json.format(encoded, indent=1) + b"\n"


def _plain(value: Any) -> Any:
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

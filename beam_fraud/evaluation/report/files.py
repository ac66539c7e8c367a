"""A report as bytes of a file, by the ending of its name."""

from __future__ import annotations

from beam_fraud.charts.page import Section
from beam_fraud.evaluation.evaluation import Report
from beam_fraud.evaluation.report.figures import json_report
from beam_fraud.evaluation.report.markdown import markdown_report
from beam_fraud.evaluation.report.sections import html_report, subtitle_of, title_of


def report_bytes(report: Report, sections: tuple[Section, ...], ending: str) -> bytes:
    """One of the kinds of report.

    Args:
      report: what is told.
      sections: of the report, as `sections_of` makes them.
      ending: `.html`, `.json` or `.md`.
    """
    if ending == ".json":
        return json_report(report)
    if ending == ".md":
        return markdown_report(title_of(report), subtitle_of(report), sections).encode()
    return html_report(report, sections).encode()

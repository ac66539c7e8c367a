"""The sections of a report, in order."""

from __future__ import annotations

from beam_fraud.evaluation.charts.page import Section, percent, render_page
from beam_fraud.evaluation.evaluation import Report
from beam_fraud.evaluation.report.cost import cost_section
from beam_fraud.evaluation.report.curves import curves_section
from beam_fraud.evaluation.report.daily import daily_section
from beam_fraud.evaluation.report.importance import importance_section
from beam_fraud.evaluation.report.scores import calibration_section, scores_section
from beam_fraud.evaluation.report.segments import segments_section
from beam_fraud.evaluation.report.stability import stability_section
from beam_fraud.evaluation.report.summary import comparison_section, summary_section


def sections_of(report: Report) -> tuple[Section, ...]:
    """Return all sections: tables, plots and explanations."""
    return (
        summary_section(report),
        *((comparison_section(report),) if report.comparisons else ()),
        curves_section(report),
        daily_section(report),
        cost_section(report),
        scores_section(report),
        calibration_section(report),
        importance_section(report),
        segments_section(report),
        stability_section(report),
    )


def title_of(report: Report) -> str:
    """Return the title of the page."""
    if len(report.models) == 1:
        return f"Evaluation of {report.models[0].model_id}"
    return f"Evaluation of {len(report.models)} models"


def subtitle_of(report: Report) -> str:
    """Return the subtitle: the rows."""
    metrics = report.models[0].metrics
    protocol = f", protocol {report.protocol}" if report.protocol else ""
    return (
        f"{', '.join(report.files)}: {metrics.rows:,} rows with {metrics.frauds:,} frauds "
        f"({percent(metrics.frauds / metrics.rows)}), from {report.span[0]} to {report.span[1]}"
        f"{protocol}. Made {report.created}."
    )


def html_report(report: Report, sections: tuple[Section, ...]) -> str:
    """Return one self-contained page."""
    return render_page(title_of(report), subtitle_of(report), sections)

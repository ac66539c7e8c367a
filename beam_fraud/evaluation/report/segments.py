"""The section on figures by segment."""

from __future__ import annotations

from beam_fraud.evaluation.charts.page import Part, Section, Table, percent
from beam_fraud.evaluation.evaluation import Report
from beam_fraud.evaluation.report.naming import numbered

#: Models per table: more make it wider than a page.
_ABREAST = 3


def segments_section(report: Report) -> Section:
    """Return a table per segmentation, with models side by side."""
    parts: list[Part] = [
        "Rows and frauds of the segments add up to all rows; AP is average precision. With few "
        "frauds in a segment its figures say little."
    ]
    parts += [
        _table(report, place, start)
        for place, _ in enumerate(report.models[0].segments)
        for start in range(0, len(report.models), _ABREAST)
    ]
    return Section("Segments", tuple(parts))


def _table(report: Report, place: int, start: int) -> Table:
    shown = report.models[start : start + _ABREAST]
    several = len(report.models) > 1
    columns = ["rows", "frauds", "share"]
    for number, _ in enumerate(shown, start + 1):
        mark = f" ({number})" if several else ""
        counts = () if several else ("flagged", "caught")
        figures = (*counts, "precision", "recall", "AP")
        columns += [f"{figure}{mark}" for figure in figures]
    tables = [model.segments[place] for model in shown]
    rows: list[tuple[str | int | float | None, ...]] = []
    for segments in zip(*(table.segments for table in tables), strict=True):
        first = segments[0]
        cells: list[str | int | float | None] = [first.name, first.rows, first.frauds]
        cells.append(percent(first.frauds / first.rows))
        for s in segments:
            cells += [] if several else [s.flagged, s.caught]
            cells += [s.precision, s.recall, s.average_precision]
        rows.append(tuple(cells))
    caption = f"By {tables[0].name}.{numbered(report.models, start, _ABREAST)}"
    return Table((tables[0].name, *columns), tuple(rows), caption)

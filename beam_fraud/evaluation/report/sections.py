"""The sections of a report, and the report as bytes of a file: HTML, JSON or Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from beam_fraud.evaluation.bootstrap import Interval
from beam_fraud.evaluation.charts import (
    Notice,
    Part,
    Plot,
    Section,
    Table,
    cell_text,
    percent,
    render_page,
)
from beam_fraud.evaluation.evaluation import Evaluation, Report
from beam_fraud.evaluation.report.breakdown import (
    daily_section,
    importance_section,
    segments_section,
    stability_section,
)
from beam_fraud.evaluation.report.curves import (
    calibration_section,
    cost_section,
    curves_section,
    scores_section,
)
from beam_fraud.models.metrics import CLASSES, undefined

#: Key of a figure to its display name.
FIGURE_NAMES = {
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
}


def summary_section(report: Report) -> Section:
    """Return the section: warnings, then figures of all models with intervals."""
    parts: list[Part] = [Notice(text, warning=True) for text in report.warnings]
    parts.append(_figures(report))
    parts.append(
        f"In brackets: 95 % of {report.resamples:,} bootstrap resamples of the "
        f"{report.unit} (seed {report.seed})."
    )
    parts += [_flagged(report), _per_class(report)]
    return Section("Summary", tuple(parts))


def comparison_section(report: Report) -> Section:
    """Return the section: differences of the models from the first."""
    rows = [
        (
            comparison.model_id,
            FIGURE_NAMES[difference.figure],
            f"{difference.value:+.3f} ({difference.interval.low:+.3f} to "
            f"{difference.interval.high:+.3f})",
            percent(difference.better),
        )
        for comparison in report.comparisons
        for difference in comparison.differences
    ]
    first = report.models[0].model_id
    columns = ("model", "figure", f"above {first} by", "better in")
    return Section(
        "Differences",
        (
            "Both models of a pair are measured on the same resamples, so what is hard for both "
            "cancels out. Where the interval spans 0, these rows do not tell which is better.",
            Table(columns, tuple(rows), "The share of resamples in which a model was better."),
        ),
    )


def _figures(report: Report) -> Table:
    rows: list[tuple[str | float | None, ...]] = [
        (
            title,
            *(_defined(model, name) for model in report.models),
        )
        for name, title in FIGURE_NAMES.items()
    ]
    if any(model.card_precision is not None for model in report.models):
        cards = (_figure(model.card_precision) for model in report.models)
        rows.append((f"card precision@{report.cards}", *cards))
    return Table(("figure", *(model.model_id for model in report.models)), tuple(rows))


def _defined(model: Evaluation, name: str) -> str:
    value = getattr(model.metrics, name)
    if value is None:
        return undefined(name, model.metrics.rows, model.metrics.frauds)
    return with_interval(value, model.intervals.get(name))


def _figure(value: float | None) -> str:
    return cell_text(value) if value is None else f"{value:.3f}"


def _flagged(report: Report) -> Table:
    names = ("frauds flagged", "frauds passed", "genuine flagged", "genuine passed")
    return Table(
        ("model", "flagged from", *names),
        tuple(
            (
                model.model_id,
                f"{model.metrics.threshold:.6g}",
                *(model.metrics.confusion[key] for key in ("tp", "fn", "fp", "tn")),
            )
            for model in report.models
        ),
        "The confusion matrix of each model at its threshold.",
    )


def _per_class(report: Report) -> Table:
    return Table(
        ("model", "class", "precision", "recall", "F1", "rows"),
        tuple(
            (model.model_id, name, f["precision"], f["recall"], f["f1"], f["rows"])
            for model in report.models
            for name in CLASSES
            for f in [model.metrics.per_class[name]]
        ),
        "By class.",
    )


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


def with_interval(value: float | None, interval: Interval | None) -> str:
    """Format a figure with its interval.

    Example:
      >>> with_interval(0.8123, Interval(0.75, 0.86))
      '0.812 (0.750 to 0.860)'
    """
    if value is None or interval is None:
        return cell_text(value)
    return f"{value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


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


def json_report(report: object) -> bytes:
    """Return a dataclass of figures as JSON; undefined figures are null."""
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

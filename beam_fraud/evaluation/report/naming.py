"""What figures and models are called in reports."""

from __future__ import annotations

from collections.abc import Sequence

from beam_fraud.evaluation.bootstrap import Interval
from beam_fraud.evaluation.charts.figure import SERIES
from beam_fraud.evaluation.charts.page import cell_text
from beam_fraud.evaluation.evaluation import Evaluation

#: A figure's key to what people call it.
FIGURE_NAMES = {
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
}
_LONGEST = 40


def drawn(text: str) -> str:
    """Return a name from outside as Matplotlib is to draw it: letter by letter, and not too long.

    Example:
      >>> drawn("_$x$")
      ' _\\\\$x\\\\$'
    """
    shown = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
    # Dollars enclose formulas, and legends leave out what starts with an underscore.
    return (" " if printable.startswith("_") else "") + printable.replace("$", r"\$")


def in_colours(models: Sequence[Evaluation]) -> list[tuple[Evaluation, str, str]]:
    """Return each model with what a legend calls it and its colour."""
    return [
        (model, drawn(model.model_id), SERIES[place % len(SERIES)])
        for place, model in enumerate(models)
    ]


def with_interval(value: float | None, interval: Interval | None) -> str:
    """Return a figure and between which others it lies.

    Example:
      >>> with_interval(0.8123, Interval(0.75, 0.86))
      '0.812 (0.750 to 0.860)'
    """
    if value is None or interval is None:
        return cell_text(value)
    return f"{value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def numbered(models: Sequence[Evaluation], start: int, count: int) -> str:
    """Return what the numbers in headings stand for, ends a caption; nothing for a single model."""
    if len(models) == 1:
        return ""
    shown = enumerate(models[start : start + count], start + 1)
    return f" {'; '.join(f'({number}) {model.model_id}' for number, model in shown)}."


def plot_name(start: str, place: int, models: Sequence[Evaluation]) -> str:
    """Return the name of one model's plot, with its number where there are several."""
    return start if len(models) == 1 else f"{start}_{place + 1}"

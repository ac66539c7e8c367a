"""Names of figures and models in reports."""

from __future__ import annotations

from collections.abc import Sequence

from beam_fraud.evaluation.bootstrap import Interval
from beam_fraud.evaluation.charts import SERIES, cell_text, drawn
from beam_fraud.evaluation.evaluation import Evaluation

#: Key of a figure to its display name.
FIGURE_NAMES = {
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
}


def in_colours(models: Sequence[Evaluation]) -> list[tuple[Evaluation, str, str]]:
    """Return each model with its name in legends and its colour."""
    return [
        (model, drawn(model.model_id), SERIES[place % len(SERIES)])
        for place, model in enumerate(models)
    ]


def with_interval(value: float | None, interval: Interval | None) -> str:
    """Format a figure with its interval.

    Example:
      >>> with_interval(0.8123, Interval(0.75, 0.86))
      '0.812 (0.750 to 0.860)'
    """
    if value is None or interval is None:
        return cell_text(value)
    return f"{value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def numbered(models: Sequence[Evaluation], start: int, count: int) -> str:
    """Return the end of a caption that explains model numbers; empty for one model."""
    if len(models) == 1:
        return ""
    shown = enumerate(models[start : start + count], start + 1)
    return f" {'; '.join(f'({number}) {model.model_id}' for number, model in shown)}."


def plot_name(start: str, place: int, models: Sequence[Evaluation]) -> str:
    """Return the name of a model's plot, with its number among several."""
    return start if len(models) == 1 else f"{start}_{place + 1}"

"""Format a model's figures as text."""

from __future__ import annotations

from typing import Any

from beam_fraud.cli.terminal.columns import table
from beam_fraud.models.metrics import undefined

_CARD_PRECISION = "card_precision_at_"
_FIGURES = ("average_precision", "roc_auc", "precision", "recall", "f1")
_NAMES = {"average_precision": "average precision", "roc_auc": "ROC AUC", "f1": "F1"}


def render_metrics(metrics: dict[str, Any], which: str) -> str:
    """Return the figures of `Metrics.to_dict` as text.

    Args:
      metrics: the figures.
      which: name of the rows, such as `validation`, or empty.
    """
    confusion = metrics["confusion"]
    kind = f"{which} rows" if which else "rows"
    cards = [key for key in metrics if key.startswith(_CARD_PRECISION)]
    whole = [
        ("average precision", _defined(metrics, "average_precision")),
        ("ROC AUC", _defined(metrics, "roc_auc")),
        *(
            (f"card precision@{key.removeprefix(_CARD_PRECISION)}", _figure(metrics[key]))
            for key in cards
        ),
    ]
    classes = [("", "precision", "recall", "F1", "rows")]
    for name, figures in metrics["per_class"].items():
        values = (_figure(figures[key]) for key in ("precision", "recall", "f1"))
        classes.append((name, *values, f"{figures['rows']:,}"))
    flagged = [
        ("", "flagged", "passed"),
        ("fraud", f"{confusion['tp']:,}", f"{confusion['fn']:,}"),
        ("genuine", f"{confusion['fp']:,}", f"{confusion['tn']:,}"),
    ]
    lines = [
        f"{metrics['rows']:,} {kind}, {metrics['frauds']:,} of them frauds"
        + (f" ({metrics['frauds'] / metrics['rows']:.3%})" if metrics["rows"] else ""),
        "",
        *table(whole, margin=2),
        "",
        f"Flagged from a score of {metrics['threshold']:.6g}",
        "",
        *table(classes, right=range(1, 5), margin=2),
        "",
        *table(flagged, right=(1, 2), margin=2),
    ]
    return "\n".join(lines)


def render_intervals(metrics: dict[str, Any], bootstrapped: dict[str, Any]) -> list[str]:
    """Return lines of 95 % intervals; empty without any.

    Args:
      metrics: with `intervals`, figure to `low` and `high` or None.
      bootstrapped: `unit`, `resamples` and `seed`.
    """
    rows = [
        (_NAMES.get(name, name), f"{interval['low']:.4f} to {interval['high']:.4f}")
        for name, interval in metrics["intervals"].items()
        if interval is not None
    ]
    return [_resampled(bootstrapped), "", *table(rows, margin=2)] if rows else []


def render_models(models: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a table of several models on the same rows.

    Args:
      models: figures of each from `Metrics.to_dict`, and its `model_id`.
    """
    lines = [["", "aver. prec.", "ROC AUC", "precision", "recall", "F1", "flagged", "caught"]]
    for model in models:
        confusion = model["confusion"]
        counts = (confusion["tp"] + confusion["fp"], confusion["tp"])
        figures = (_figure(model[name]) for name in _FIGURES)
        lines.append([str(model["model_id"]), *figures, *(f"{count:,}" for count in counts)])
    rows, frauds = models[0]["rows"], models[0]["frauds"]
    shown = table(lines, right=range(1, 8))
    return [f"{rows:,} rows, {frauds:,} of them frauds", "", *shown]


def render_comparisons(
    comparisons: list[dict[str, Any]], bootstrapped: dict[str, Any]
) -> list[str]:
    """Return lines of differences between models and the first one.

    Args:
      comparisons: `model_id`, `against` and `differences` each.
      bootstrapped: `unit`, `resamples` and `seed`.
    """
    lines = [f"{_resampled(bootstrapped)}, the same for all models"]
    for comparison in comparisons:
        rows = []
        for difference in comparison["differences"]:
            name, interval = difference["figure"], difference["interval"]
            about = f"({interval['low']:+.4f} to {interval['high']:+.4f}), better in"
            about += f" {difference['better']:.0%}"
            rows.append((_NAMES.get(name, name), f"{difference['value']:+.4f}", about))
        lines += ["", f"{comparison['model_id']} against {comparison['against']}"]
        lines += table(rows, margin=2)
    return lines


def _resampled(bootstrapped: dict[str, Any]) -> str:
    return (
        f"In 95 % of {bootstrapped['resamples']:,} resamples of the {bootstrapped['unit']} "
        f"(seed {bootstrapped['seed']})"
    )


def _defined(metrics: dict[str, Any], name: str) -> str:
    if metrics[name] is None:
        return undefined(name, metrics["rows"], metrics["frauds"])
    return _figure(metrics[name])


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"

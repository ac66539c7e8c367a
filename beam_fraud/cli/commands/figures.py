"""Format a model's figures as text."""

from __future__ import annotations

from typing import Any

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
    wide = max(len(f"{count:,}") for count in (*confusion.values(), 1_000_000))
    kind = f"{which} rows" if which else "rows"
    lines = [
        f"{metrics['rows']:,} {kind}, {metrics['frauds']:,} of them frauds"
        + (f" ({metrics['frauds'] / metrics['rows']:.3%})" if metrics["rows"] else ""),
        "",
        f"  average precision  {_defined(metrics, 'average_precision')}",
        f"  ROC AUC            {_defined(metrics, 'roc_auc')}",
        "",
        f"Flagged from a score of {metrics['threshold']:.6g}",
        "",
        "             precision   recall       F1       rows",
    ]
    for key in (key for key in metrics if key.startswith(_CARD_PRECISION)):
        name = f"card precision@{key.removeprefix(_CARD_PRECISION)}"
        lines.insert(4, f"  {name:<18} {_figure(metrics[key])}")
    for name, figures in metrics["per_class"].items():
        values = "  ".join(f"{_figure(figures[key]):>7}" for key in ("precision", "recall", "f1"))
        lines.append(f"  {name:<9}    {values}  {figures['rows']:>9,}")
    lines += [
        "",
        f"             {'flagged':>{wide}}  {'passed':>{wide}}",
        f"  fraud      {confusion['tp']:>{wide},}  {confusion['fn']:>{wide},}",
        f"  genuine    {confusion['fp']:>{wide},}  {confusion['tn']:>{wide},}",
    ]
    return "\n".join(lines)


def render_intervals(metrics: dict[str, Any], bootstrapped: dict[str, Any]) -> list[str]:
    """Return lines of 95 % intervals; empty without any.

    Args:
      metrics: with `intervals`, figure to `low` and `high` or None.
      bootstrapped: `unit`, `resamples` and `seed`.
    """
    lines = [
        f"  {_NAMES.get(name, name):<18} {interval['low']:.4f} to {interval['high']:.4f}"
        for name, interval in metrics["intervals"].items()
        if interval is not None
    ]
    return [_resampled(bootstrapped), "", *lines] if lines else []


def render_models(models: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a table of several models on the same rows.

    Args:
      models: figures of each from `Metrics.to_dict`, and its `model_id`.
    """
    wide = max(len(str(model["model_id"])) for model in models)
    heads = ("aver. prec.", "ROC AUC", "precision", "recall", "F1", "flagged", "caught")
    lines = [" " * wide + "".join(f"{head:>12}" for head in heads)]
    for model in models:
        confusion = model["confusion"]
        cells = [_figure(model[name]) for name in _FIGURES]
        cells += [f"{confusion['tp'] + confusion['fp']:,}", f"{confusion['tp']:,}"]
        lines.append(f"{model['model_id']:<{wide}}" + "".join(f"{cell:>12}" for cell in cells))
    rows, frauds = models[0]["rows"], models[0]["frauds"]
    return [f"{rows:,} rows, {frauds:,} of them frauds", "", *lines]


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
        lines += ["", f"{comparison['model_id']} against {comparison['against']}"]
        for difference in comparison["differences"]:
            name, interval = difference["figure"], difference["interval"]
            lines.append(
                f"  {_NAMES.get(name, name):<18} {difference['value']:+.4f}  "
                f"({interval['low']:+.4f} to {interval['high']:+.4f}), "
                f"better in {difference['better']:.0%}"
            )
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

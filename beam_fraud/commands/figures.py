"""A model's figures as text that people like to read."""

from __future__ import annotations

from typing import Any


def render_metrics(metrics: dict[str, Any], which: str) -> str:
    """Figures as `Metrics.to_dict` gives them.

    Args:
      metrics: the figures.
      which: what rows they are of, such as `validation`; empty for none in particular.
    """
    confusion = metrics["confusion"]
    wide = max(len(f"{count:,}") for count in (*confusion.values(), 1_000_000))
    kind = f"{which} rows" if which else "rows"
    lines = [
        f"{metrics['rows']:,} {kind}, {metrics['frauds']:,} of them frauds"
        + (f" ({metrics['frauds'] / metrics['rows']:.3%})" if metrics["rows"] else ""),
        "",
        f"  average precision  {_figure(metrics['average_precision'])}",
        f"  ROC AUC            {_figure(metrics['roc_auc'])}",
        "",
        f"Flagged from a score of {metrics['threshold']:.6g}",
        "",
        "             precision   recall       F1       rows",
    ]
    if "card_precision_at_100" in metrics:
        lines.insert(4, f"  card precision@100 {_figure(metrics['card_precision_at_100'])}")
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


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"

"""Folds and trials as text that people like to read."""

from __future__ import annotations

from typing import Any


def render_validation(validation: dict[str, Any] | None) -> list[str]:
    """Lines for figures as `fold_figures.summary` gives them; none for None."""
    if validation is None:
        return []
    folds = validation["folds"]
    lines = [
        "",
        f"Validated on {len(folds)} fold{'s' * (len(folds) > 1)}",
        "",
        "  first validation row             fitted on  unlabelled      rows  known cards   frauds"
        "  average precision   ROC AUC  card precision@100",
    ]
    for fold in folds:
        lines.append(
            f"  {fold['validated_on'][0]:<31}  {fold['rows_train']:>9,}  "
            f"{fold['rows_unlabelled']:>10,}  {fold['rows_valid']:>8,}  "
            f"{fold['rows_known_cards']:>11,}  {fold['frauds']:>7,}  "
            f"{fold['average_precision']:>17.4f}  {fold['roc_auc']:>8.4f}  "
            f"{_figure(fold['card_precision_at_100']):>18}"
        )
    for kind, label in (("mean", "mean"), ("spread", "standard deviation")) * (len(folds) > 1):
        values = [
            _figure((validation.get(name) or {}).get(kind))
            for name in ("average_precision", "roc_auc", "card_precision_at_100")
        ]
        lines.append(f"  {label:<86}{values[0]:>19}{values[1]:>10}{values[2]:>20}")
    return lines


def render_tuning(tuning: dict[str, Any] | None) -> list[str]:
    """Lines for what `Tuned.to_dict` gives; none for None."""
    if tuning is None:
        return []
    budget = tuning["budget_seconds"]
    lines = [
        "",
        f"Tuned by {tuning['trials']} trials in {tuning['seconds']:.1f} s (seed {tuning['seed']}, "
        f"{tuning['pruned']} pruned, {tuning['failed']} failed"
        + ("" if budget is None else f", budget {budget:g} s")
        + f"): average precision {tuning['best_average_precision']:.4f}, "
        f"{tuning['own_average_precision']:.4f} untuned",
        "",
        "  trial  average precision  settings",
    ]
    for trial in tuning["best_trials"]:
        settings = ", ".join(f"{name}={value}" for name, value in trial["settings"].items())
        lines.append(f"  {trial['number']:>5}  {trial['average_precision']:>17.4f}  {settings}")
    return lines


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"

"""What a model card says about the folds that chose, and about tuning."""

from __future__ import annotations

from typing import Any

from beam_fraud.models.fold_figures import FoldFigures, summary
from beam_fraud.models.training import Trained
from beam_fraud.models.tuning.trial import Tuned, best_trials, settings_text


def validation_sections(trained: Trained, *, random: bool) -> dict[str, str]:
    """Title to Markdown of the sections that there is something to say in.

    Args:
      trained: the model and how it was chosen.
      random: whether folds are of random rows, and not in time order.
    """
    sections = {}
    if trained.folds:
        sections["Validation"] = _validation(trained.folds, random)
    if trained.tuned is not None:
        sections["Tuning"] = _tuning(trained.tuned)
    return sections


def _validation(folds: tuple[FoldFigures, ...], random: bool) -> str:
    rows = [
        "| validation rows | fitted on | too young to be labelled | rows | of known cards | frauds "
        "| average precision | ROC AUC | card precision@100 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for fold in folds:
        rows.append(
            f"| {fold.validated_on[0]} to {fold.validated_on[1]} | {fold.rows_train:,} "
            f"| {fold.rows_unlabelled:,} | {fold.rows_valid:,} | {fold.rows_known_cards:,} "
            f"| {fold.frauds:,} | {fold.average_precision:.3f} | {fold.roc_auc:.3f} "
            f"| {_figure(fold.card_precision_at_100)} |"
        )
    figures = summary(folds)
    compared = [_compared(figures, name) for name in ("average_precision", "roc_auc")]
    compared.append(_compared(figures, "card_precision_at_100"))
    if len(folds) > 1:
        rows.append(f"| mean ± standard deviation | | | | | | {' | '.join(compared)} |")
    table = "\n".join(rows)
    order = (
        "Folds are of random rows with equal shares of fraud."
        if random
        else "A fold's model was fitted on rows before its validation rows, as far as their labels "
        "were known by then. Rows of cards that were known to be compromised, where they were left "
        "out, did not judge."
    )
    several = (
        " The settings are the median of what the folds chose, and the threshold is for the scores "
        "of all folds together."
        if len(folds) > 1
        else ""
    )
    return f"{order}{several}\n\n{table}"


def _tuning(tuned: Tuned) -> str:
    found = tuned.to_dict()
    budget = "" if tuned.tuning.budget is None else f" within {tuned.tuning.budget:g} s"
    best = best_trials(tuned.trials)
    rows = [
        "| trial | average precision | settings |",
        "|---|---|---|",
        *(f"| {t.number} | {t.average_precision:.4f} | {settings_text(t)} |" for t in best),
    ]
    table = "\n".join(rows)
    return (
        f"{found['trials']} trials ({found['pruned']} pruned, {found['failed']} failed) of at most "
        f"{tuned.tuning.trials}{budget}, seed {tuned.seed}, compared by average precision on the "
        f"validation rows alone. Trial 1 is the kind's own settings. The best of many trials is "
        f"also the luckiest: expect less than its figure on new rows.\n\n{table}"
    )


def _compared(figures: dict[str, Any], name: str) -> str:
    if name not in figures:
        return "-"
    mean, spread = figures[name]["mean"], figures[name]["spread"]
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"

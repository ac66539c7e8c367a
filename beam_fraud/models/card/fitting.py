"""The sections of a model card on data, resampling and validation."""

from __future__ import annotations

from typing import Any

from beam_fraud.models.card.figures import code, figure, plain, table
from beam_fraud.models.folds import FoldFigures, summary
from beam_fraud.models.metrics import CONFIDENCE, DRAWS
from beam_fraud.models.resampling.base import resamplers_of
from beam_fraud.models.resampling.compare import Tried
from beam_fraud.models.threshold import FixedThreshold
from beam_fraud.models.training import Recipe, Trained
from beam_fraud.models.tuning.trial import Tuned, best_trials, settings_text


def data_section(trained: Trained, recipe: Recipe, data: tuple[str, ...]) -> str:
    """Return the section on the data.

    Args:
      trained: the model and how it was chosen.
      recipe: the recipe of the training.
      data: names of the files.
    """
    shown = ", ".join(code(name) for name in data)
    sizes, (first, last) = trained.sizes, trained.trained_on
    rows = sizes["refit"]
    frauds = (
        "without regard to labels"
        if trained.frauds is None
        else f"{trained.frauds:,} of them frauds ({trained.frauds / rows:.3%})"
    )
    return (
        f"{shown}, schema {code(trained.features.schema.name)}. The model was fitted on {rows:,} "
        f"rows from {first} to {last}, {frauds}."
        f"\n\n{_chosen(trained, recipe)}"
    )


def _chosen(trained: Trained, recipe: Recipe) -> str:
    sizes, (first, last) = trained.sizes, trained.validated_on
    if trained.metrics is None:
        return (
            f"The threshold was set by fitting on the first {sizes['train']:,} rows and looking at "
            f"the scores of the {sizes['valid']:,} that followed, from {first} to {last}. Then the "
            "model was fitted on all of them."
        )
    what = "Settings" if isinstance(recipe.rule, FixedThreshold) else "Settings and threshold"
    if recipe.split == "time":
        earlier = "earlier rows" if len(trained.folds) > 1 else f"the first {sizes['train']:,} rows"
        return (
            f"{what} were chosen by fitting on {earlier} and looking at the {sizes['valid']:,} "
            f"that followed, from {first} to {last}. Then the model was fitted on all of them."
        )
    return (
        f"{what} were chosen on {sizes['valid']:,} random rows with an equal share of fraud, by "
        f"models that were fitted on other rows; {sizes['held_out']:,} rows were held out for the "
        "figures below, and neither chose nor were fitted on."
    )


def resampling_section(trained: Trained) -> str | None:
    """Return the section on resampling and its effect on scores; None without resampling."""
    paragraphs = [
        f"Rows to fit on were resampled by {code(str(resampler))}; rows that choose or are "
        f"reported on never are. {resampler.effect}"
        for resampler in resamplers_of(trained.kind)
    ]
    if trained.tried:
        paragraphs += [_judged(trained.tried), _table(trained.tried)]
    return "\n\n".join(paragraphs) or None


def _judged(tried: tuple[Tried, ...]) -> str:
    best = next(line.resample for line in tried if line.chosen)
    outcome = "none of them was clearly better" if best == "none" else f"{code(best)} was taken"
    return (
        f"Ways to resample were compared on the validation rows: {outcome}. The gain over none is "
        f"a {CONFIDENCE:.0%} interval of {DRAWS} draws of the validation rows with replacement, "
        "and a way is taken only if all of it is above 0."
    )


def _table(tried: tuple[Tried, ...]) -> str:
    head = ["resampling", "rows fitted on", "frauds", "average precision", "gain", "seconds"]
    return table(head, [_row(line) for line in tried])


def _row(line: Tried) -> list[str]:
    name = f"{line.resample} (taken)" if line.chosen else line.resample
    if line.rows is None or line.frauds is None:
        return [name, "-", "-", "-", plain(line.reason), f"{line.seconds:.1f}"]
    gain = "-" if line.gain is None else "{:+.3f} to {:+.3f}".format(*line.gain)
    counts = [f"{line.rows:,}", f"{line.frauds:,}"]
    return [name, *counts, figure(line.average_precision), gain, f"{line.seconds:.1f}"]


def validation_sections(trained: Trained, *, random: bool) -> dict[str, str]:
    """Return title to Markdown of the sections on validation that apply.

    Args:
      trained: the model and how it was chosen.
      random: whether folds are random, not in time order.
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
    tally = tuned.to_dict()
    budget = "" if tuned.tuning.budget is None else f" within {tuned.tuning.budget:g} s"
    best = best_trials(tuned.trials)
    rows = [
        "| trial | average precision | settings |",
        "|---|---|---|",
        *(f"| {t.number} | {t.average_precision:.4f} | {settings_text(t)} |" for t in best),
    ]
    table = "\n".join(rows)
    return (
        f"{tally['trials']} trials ({tally['pruned']} pruned, {tally['failed']} failed) of at most "
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

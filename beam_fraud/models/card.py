"""The model card: what a person has to know before relying on a model."""

from __future__ import annotations

from beam_fraud.models.manifest import Thresholds, installed_versions
from beam_fraud.models.metrics import Metrics
from beam_fraud.models.training import Recipe, Trained
from beam_fraud.models.validation_card import validation_sections


def model_card(
    name: str,
    trained: Trained,
    recipe: Recipe,
    data: tuple[str, ...],
    rule: str,
    decline: str | None = None,
) -> str:
    """The card of a trained model.

    Args:
      name: of the model.
      trained: the model and its figures.
      recipe: how it was trained.
      data: names of the files it was trained on.
      rule: how the threshold was asked for, as on the command line.
      decline: how the one to decline from was, if it was.

    Returns:
      Markdown.
    """
    sections = {
        "Data": _data(trained, recipe, data),
        "Features": _features(trained),
        "Settings": _list({**trained.settings, "seed": recipe.seed}),
        **validation_sections(trained, random=recipe.split == "stratified"),
        "Figures": _figures(trained),
        "Threshold": _threshold(trained, rule, decline),
        "Cost": f"A prediction takes {trained.microseconds_per_row:g} µs a row on one thread, in "
        f"blocks of up to 50,000 rows. Training took {trained.seconds:g} s.",
        "Limits": _limits(trained),
        "Versions": _list(installed_versions()),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return (
        f"# {name}\n\nA `{trained.kind.name}` model that scores transactions for fraud.\n\n{body}\n"
    )


def imported_card(
    name: str, model: object, source: str, digest: str, thresholds: Thresholds
) -> str:
    """The card of a model that someone else saved, of which little is known.

    Args:
      name: of the model.
      model: the classifier.
      source: name of the file it came from.
      digest: SHA-256 of that file, in hexadecimal.
      thresholds: the scores from which to flag and to decline.

    Returns:
      Markdown.
    """
    declined = "" if thresholds.decline is None else f", of {thresholds.decline:g} or more declined"
    return (
        f"# {name}\n\nA `{type(model).__name__}` that was imported from `{source}` "
        f"(SHA-256 `{digest}`).\n\nNothing is known of the rows it was trained on, so there are no "
        f"figures and no reference for drift: evaluate it before relying on it. A score of "
        f"{thresholds.review:g} or more is flagged{declined}, as whoever imported it said."
        f"\n\n## Versions\n\n"
        f"{_list(installed_versions())}\n"
    )


def _data(trained: Trained, recipe: Recipe, data: tuple[str, ...]) -> str:
    first, last = trained.validated_on
    shown = ", ".join(f"`{name}`" for name in data)
    sizes = trained.sizes
    if trained.folds:
        held_out = f"; {sizes['held_out']:,} were held out for the figures below"
        return (
            f"{shown}, schema `{trained.features.schema.name}`. Settings and threshold were chosen "
            f"on {sizes['valid']:,} validation rows, from {first} to {last}, as told below"
            f"{held_out if sizes['held_out'] else ''}. "
            f"Then the model was fitted on {sizes['refit']:,} rows."
        )
    if recipe.split == "time":
        return (
            f"{shown}, schema `{trained.features.schema.name}`. Settings and threshold were chosen "
            f"by fitting on the first {sizes['train']:,} rows and looking at the "
            f"{sizes['valid']:,} that followed, from {first} to {last}. Then the model was fitted "
            f"on all {sizes['refit']:,} rows."
        )
    return (
        f"{shown}, schema `{trained.features.schema.name}`. Of random rows with equal shares of "
        f"fraud {sizes['train']:,} were fitted on, {sizes['valid']:,} chose settings and "
        f"threshold, and {sizes['held_out']:,} were held out for the figures below. Then the "
        f"model was fitted on the {sizes['refit']:,} that were not held out."
    )


def _features(trained: Trained) -> str:
    names = ", ".join(f"`{name}`" for name in trained.features.names)
    return f"{len(trained.features.names)}, in this order: {names}."


def _figures(trained: Trained) -> str:
    metrics = trained.metrics
    which = "held-out" if trained.reported_on == "held_out" else "validation"
    lines = [
        f"On {metrics.rows:,} {which} rows with {metrics.frauds:,} frauds:\n",
        "| figure | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in _figure_rows(metrics)),
    ]
    return "\n".join(lines)


def _figure_rows(metrics: Metrics) -> list[tuple[str, str]]:
    figures = {
        "average precision": metrics.average_precision,
        "ROC AUC": metrics.roc_auc,
        "precision": metrics.precision,
        "recall": metrics.recall,
        "F1": metrics.f1,
    }
    rows = [(name, "-" if value is None else f"{value:.3f}") for name, value in figures.items()]
    confusion = metrics.confusion
    return [
        *rows,
        ("frauds flagged / missed", f"{confusion['tp']:,} / {confusion['fn']:,}"),
        ("genuine flagged / passed", f"{confusion['fp']:,} / {confusion['tn']:,}"),
    ]


def _threshold(trained: Trained, rule: str, decline: str | None) -> str:
    declined = ""
    if trained.decline is not None:
        declined = (
            f" A score of {trained.decline:.6g} or more is declined; chosen on the same rows by "
            f"`{decline}`."
        )
    return (
        f"A score of {trained.threshold:.6g} or more is flagged for review; chosen on the "
        f"validation rows by `{rule}`.{declined}"
    )


def _limits(trained: Trained) -> str:
    optimism = (
        "The threshold was chosen on the very rows that the figures are of, so expect a little "
        "less on new ones."
        if trained.reported_on == "validation"
        else "Random rows of the same days are easier than later days: expect less in production."
    )
    return (
        f"{optimism} With {trained.metrics.frauds:,} frauds the figures are uncertain: one fraud "
        f"more or less moves recall by {1 / max(trained.metrics.frauds, 1):.1%}. {_meaning(trained)}"
    )


def _meaning(trained: Trained) -> str:
    if trained.calibration is None:
        return "A score ranks transactions; it is no calibrated probability."
    return (
        f"A score is a probability, by a `{trained.calibration.method}` map of the model's own "
        "scores. The map was learned on the validation rows that chose the threshold too, from "
        "scores of a model of earlier rows: on those rows it looks better calibrated than it is, "
        "and where the share of frauds changes it is wrong."
    )


def _list(values: dict[str, object] | dict[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in values.items())

"""The model card: what people must know before they rely on a model."""

from __future__ import annotations

from beam_fraud.models.card.figures import (
    bullets,
    code,
    features_section,
    figures_section,
    importance_of,
    plain,
    scores_section,
    thresholds_section,
    weaknesses_section,
)
from beam_fraud.models.card.fitting import data_section, resampling_section, validation_sections
from beam_fraud.models.importing import ImportedModel
from beam_fraud.models.manifest import Thresholds, installed_versions
from beam_fraud.models.training import Recipe, Trained

_USE = (
    "It ranks transactions of the kind it was trained on, so that people look at the most "
    "suspicious ones first. It was made for one schema and one stretch of time; transactions of "
    "another bank, country or product need another model. It is no ground by itself to accuse or "
    "to refuse a person, and says nothing about what a person will do."
)


def model_card(
    name: str,
    trained: Trained,
    recipe: Recipe,
    data: tuple[str, ...],
    rule: str,
    decline: str | None = None,
) -> str:
    """Return the card of a trained model.

    Args:
      name: of the model.
      trained: the model and its figures.
      recipe: how it was trained.
      data: names of the files it was trained on.
      rule: the rule of the review threshold, as on the command line.
      decline: the rule of the decline threshold, or None.

    Returns:
      Markdown.
    """
    importance = importance_of(trained.model, len(trained.features.names))
    sections = {
        "Warnings": "\n".join(f"- {plain(warning)}." for warning in trained.warnings),
        "Intended use": _USE,
        "Data": data_section(trained, recipe, data),
        **validation_sections(trained, random=recipe.split == "stratified"),
        "Resampling": resampling_section(trained),
        "Features": features_section(trained.features, importance),
        "Settings": bullets({**trained.settings, "seed": recipe.seed}),
        "Figures": figures_section(trained),
        "Thresholds": thresholds_section(trained, rule, decline),
        "What a score means": scores_section(trained),
        "Cost": f"A prediction takes {trained.microseconds_per_row:g} µs a row on one thread, in "
        f"blocks of up to 50,000 rows. Training took {trained.seconds:g} s.",
        "Known weaknesses": weaknesses_section(trained),
        "Versions": bullets(installed_versions()),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text)
    return (
        f"# {plain(name)}\n\nA {code(trained.kind.name)} model that scores transactions for fraud."
        f"\n\n{body}\n"
    )


def imported_card(
    name: str, imported: ImportedModel, source: str, digest: str, thresholds: Thresholds
) -> str:
    """Return the card of a model that someone else saved, of which little is known.

    Args:
      name: of the model.
      imported: the classifier.
      source: name of the file it came from.
      digest: SHA-256 of that file, in hexadecimal.
      thresholds: the scores from which to flag and to decline.

    Returns:
      Markdown.
    """
    by, scoring = imported.saved_by, imported.scoring
    saved = "" if by is None else f", saved by {by.library} {code(by.version)}"
    features = ", ".join(map(code, imported.features.names))
    classes = ", ".join(map(code, scoring.classes))
    declined = "" if thresholds.decline is None else f", of {thresholds.decline:g} or more declined"
    return (
        f"# {plain(name)}\n\nA {code(imported.kind)} that was imported from "
        f"{code(source)} (SHA-256 `{digest}`{saved}).\n\nNothing is known of the rows it was "
        "trained on, so there are no figures and no reference for drift: evaluate it before "
        f"relying on it. A score of {thresholds.review:g} or more is flagged{declined}, as whoever "
        f"imported it said.\n\n## Features and classes\n\nThe features in the model's order are "
        f"{features}. Fraud is the class {code(scoring.positive)} of {classes}; the score is "
        f"{plain(scoring.score)}.\n\n## Versions\n\n"
        f"{bullets(installed_versions())}\n"
    )

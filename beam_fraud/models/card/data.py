"""Which rows a model was fitted on, and which chose."""

from __future__ import annotations

from beam_fraud.models.card.markdown import code
from beam_fraud.models.threshold import Given
from beam_fraud.models.training import Recipe, Trained


def data_section(trained: Trained, recipe: Recipe, data: tuple[str, ...]) -> str:
    """The rows behind a model.

    Args:
      trained: the model and how it was chosen.
      recipe: how it was asked for.
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
    what = "Settings" if isinstance(recipe.rule, Given) else "Settings and threshold"
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

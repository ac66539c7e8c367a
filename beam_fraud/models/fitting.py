"""Fit a bundle from labelled transactions: read, train, describe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from beam_fraud.features.dataset import Dataset, Source, load_dataset
from beam_fraud.models.bundle import Bundle, make_bundle
from beam_fraud.models.card import model_card
from beam_fraud.models.manifest import Manifest, Thresholds, schema_fields
from beam_fraud.models.training import Recipe, Trained, train
from beam_fraud.models.unlabelled import has_both_classes, train_unlabelled
from beam_fraud.schema.schema import Schema


@dataclass(frozen=True)
class Rows:
    """The training rows of a model."""

    #: Paths, directories or globs of transactions; or a table.
    transactions: Source
    #: Paths, directories or globs of earlier transactions, which only fill windows; or a table.
    history: Source = ()
    #: First event time of the training rows, aware; None: from the first.
    since: datetime | None = None
    #: First event time after the training rows, aware; None: to the last.
    until: datetime | None = None

    def load(self, schema: Schema, *, supervised: bool) -> Dataset:
        """Read the rows for a kind of model.

        An unsupervised kind takes rows without labels; if both classes are labelled, only labelled
        rows are kept, to measure the model on.

        Raises:
          FraudError: a source cannot be read, or each of its rows is a dead letter.
        """
        dataset = load_dataset(
            self.transactions,
            schema,
            since=self.since,
            until=self.until,
            history=self.history,
            labels="required" if supervised else "known",
        )
        unlabelled = not supervised and has_both_classes(dataset.transactions)
        if unlabelled and dataset.transactions.column("label").null_count:
            return self.load(schema, supervised=True)
        return dataset


@dataclass(frozen=True)
class Fitted:
    """A new bundle in memory, and its training."""

    bundle: Bundle
    trained: Trained
    #: The rows read for it.
    dataset: Dataset


def fit_bundle(
    rows: Rows,
    schema: Schema,
    recipe: Recipe,
    *,
    name: str,
    rules: tuple[str, str | None],
    data: tuple[str, ...],
    warn: Callable[[str], object],
) -> Fitted:
    """Train a model and create its bundle in memory.

    Args:
      rows: the training rows.
      schema: the schema of the rows.
      recipe: the recipe of the training.
      name: of the model.
      rules: the rules of the review and the decline threshold, for the card.
      data: names of the files or tables, for the card.
      warn: callback for each warning, one line.

    Raises:
      FraudError: no model can be fitted with these rows and this recipe.
    """
    dataset = rows.load(schema, supervised=recipe.kind.supervised)
    if dataset.rows_dead:
        warn(dataset.left_out)
    judged = recipe.kind.supervised or has_both_classes(dataset.transactions)
    fit = train if judged else train_unlabelled
    trained = fit(dataset.transactions, schema, recipe)
    for warning in trained.warnings:
        warn(warning)
    metrics = {}
    if trained.metrics is not None:
        metrics = {"rows_of": trained.reported_on, **trained.metrics.to_dict()}
    manifest = Manifest(
        name=name,
        kind=trained.kind.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        features=trained.features.names,
        **schema_fields(schema),
        thresholds=Thresholds(trained.threshold, trained.decline),
        categories=trained.features.categories,
        settings=trained.settings,
        trained_on=trained.trained_on,
        metrics=metrics,
        microseconds_per_row=trained.microseconds_per_row,
    )
    card = model_card(name, trained, recipe, data, *rules)
    files = trained.kind.files(trained.model)
    bundle = make_bundle(trained.model, manifest, trained.reference, card, files)
    return Fitted(bundle, trained, dataset)

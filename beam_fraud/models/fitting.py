"""Fit a bundle: read rows, train with or without labels, describe."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.dataset import Dataset, Source, load_dataset
from beam_fraud.models.bundle import RELIABILITY_FILE, Bundle, make_bundle
from beam_fraud.models.card import model_card
from beam_fraud.models.examples import Examples
from beam_fraud.models.folds import split_by_time
from beam_fraud.models.manifest import Manifest, schema_fields
from beam_fraud.models.predict import microseconds_per_row, predict_scores
from beam_fraud.models.reference import reference_of
from beam_fraud.models.threshold import OPTION, AlertBudget, FixedThreshold, operating_points
from beam_fraud.models.training import (
    DECLINE_OPTION,
    Recipe,
    Trained,
    check_folds,
    checked_labels,
    choose_decline,
    divide,
    span_of,
    train,
)
from beam_fraud.records.label_file import LabelFile
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros
from beam_fraud.schema.schema import Labels, Schema

_log = logging.getLogger(__name__)


def has_both_classes(transactions: pa.Table) -> bool:
    """Return whether both classes are labelled.

    Args:
      transactions: rows with a column `label`, null where unknown, or without one.
    """
    if "label" not in transactions.column_names:
        return False
    known = set(transactions.column("label").unique().drop_null().to_pylist())
    return known == {0, 1}


def can_be_measured(transactions: pa.Table, schema: Schema, recipe: Recipe) -> bool:
    """Return whether an unsupervised kind can be measured on its validation rows.

    Args:
      transactions: labelled rows of both classes, in time order.
      schema: the schema of the rows.
      recipe: the recipe.

    Raises:
      FraudError: it cannot, and the recipe needs labels; or the rows cannot be divided.
    """
    examples = Examples(transactions, checked_labels(transactions, schema), schema)
    try:
        check_folds(divide(examples, recipe), transactions, examples.labels)
    except FraudError as error:
        if error.code is not Code.CLASSES_MISSING or next(_needing_labels(recipe), None):
            raise
        return False
    return True


def train_unlabelled(transactions: pa.Table, schema: Schema, recipe: Recipe) -> Trained:
    """Fit on earlier rows, choose the threshold by the share flagged of later ones, fit on all.

    Args:
      transactions: rows as `schema.transactions(labels="known")` describes them, in time order.
      schema: the schema of the rows.
      recipe: the recipe; its kind is unsupervised.

    Returns:
      The model, without figures.

    Raises:
      FraudError: there are too few rows, or the recipe needs labels.
    """
    start = time.perf_counter()
    _refuse_what_needs_labels(recipe)
    if not transactions.num_rows:
        raise FraudError("no rows to train on in the files and times given", Code.INPUT_EMPTY)
    none = np.zeros(transactions.num_rows, dtype=np.int8)
    examples = Examples(transactions, none, schema)
    split = split_by_time(transactions.column("event_time"), recipe.valid_from)
    features, earlier = examples.learn(split.train)
    _log.info("fitting %s on %s rows without labels", recipe.kind.name, f"{len(split.train):,}")
    candidate = recipe.kind.fit(earlier, recipe.seed)
    scores = predict_scores(candidate, examples.rows(split.valid, features).matrix)
    times = event_micros(transactions)[split.valid]
    days = int(times.max() - times.min()) / DAY
    points = operating_points(none[split.valid], scores, days)
    threshold = recipe.rule.choose(points)
    decline = choose_decline(recipe, points, threshold)
    features, fitted_on = examples.learn(split.refit)
    _log.info("fitting %s again on %s rows", recipe.kind.name, f"{len(split.refit):,}")
    model = recipe.kind.fit(fitted_on, recipe.seed)
    return Trained(
        model=model,
        kind=recipe.kind,
        features=features,
        threshold=threshold,
        decline=decline,
        metrics=None,
        reported_on="validation",
        labels=none[split.valid],
        scores=scores,
        amounts=examples.amounts(split.valid),
        validated_on=span_of(transactions, split.valid),
        trained_on=span_of(transactions, split.refit),
        sizes={
            "train": len(split.train),
            "valid": len(split.valid),
            "held_out": 0,
            "refit": len(split.refit),
        },
        frauds=None,
        reference=reference_of(fitted_on.matrix, features, scores),
        microseconds_per_row=microseconds_per_row(model, fitted_on.matrix),
        seconds=round(time.perf_counter() - start, 3),
        warnings=(
            f"{_unmeasured(transactions)}, so nothing was measured: how many frauds it finds is "
            "unknown",
        ),
    )


def _unmeasured(transactions: pa.Table) -> str:
    if has_both_classes(transactions):
        return (
            "the labelled rows to fit on, or to validate by, are all frauds or all genuine: they "
            "were used without labels"
        )
    return "there are no labels of both frauds and genuine transactions"


def _refuse_what_needs_labels(recipe: Recipe) -> None:
    for option in _needing_labels(recipe):
        why = "the rows have no labels of both frauds and genuine transactions"
        if option in (OPTION, DECLINE_OPTION):
            raise FraudError(
                f"{why}, so {option} can only be budget=N (alerts a day) or a score from 0 to 1 "
                "(of ten thousand usual rows, 0.999 flags about ten)",
                Code.LABELS_NEEDED,
            )
        raise FraudError(f"{option}: {why}; leave it out", Code.LABELS_NEEDED)


def _needing_labels(recipe: Recipe) -> Iterator[str]:
    """Yield the options of a recipe that need labels of both classes."""
    for option, rule in ((OPTION, recipe.rule), (DECLINE_OPTION, recipe.decline)):
        if not isinstance(rule, AlertBudget | FixedThreshold | None):
            yield option
    options = {
        "--calibrate": recipe.calibrate is not None,
        "--tune": recipe.tuning is not None,
        "--folds": recipe.folds is not None,
        "--split stratified": recipe.split == "stratified",
        "--label-delay": bool(recipe.label_delay),
        "--drop-known-cards": recipe.drop_known_cards,
    }
    yield from (option for option, is_set in options.items() if is_set)


@dataclass(frozen=True)
class Rows:
    """The training rows of a model."""

    #: Files, directories or globs of transactions; or a table.
    transactions: Source
    #: Files, directories or globs of earlier transactions, which only fill windows; or a table.
    history: Source = ()
    #: First event time of the training rows, aware; None: from the first.
    since: datetime | None = None
    #: First event time after the training rows, aware; None: to the last.
    until: datetime | None = None
    #: Labels that replace those of the rows, or None.
    labels: LabelFile | None = None

    def load(self, schema: Schema, *, supervised: bool) -> Dataset:
        """Read the rows for a kind of model.

        An unsupervised kind takes rows without labels; if both classes are labelled, only labelled
        rows are kept, to measure the model on.

        Raises:
          FraudError: a source cannot be read, or each of its rows is a dead letter.
        """
        dataset = self.read(schema, "required" if supervised else "known")
        unlabelled = not supervised and has_both_classes(dataset.transactions)
        if unlabelled and dataset.transactions.column("label").null_count:
            return self.read(schema, "required")
        return dataset

    def read(self, schema: Schema, labels: Labels) -> Dataset:
        """Read the rows with labels, or whether they have some or not; errors as `load`."""
        return load_dataset(
            self.transactions,
            schema,
            since=self.since,
            until=self.until,
            history=self.history,
            labels=self.labels or labels,
            absent="refuse",
        )


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
    supervised = recipe.kind.supervised
    dataset = rows.load(schema, supervised=supervised)
    judged = supervised or has_both_classes(dataset.transactions)
    if not supervised and judged and not can_be_measured(dataset.transactions, schema, recipe):
        judged, dataset = False, rows.read(schema, "known")
    if dataset.rows_dead:
        warn(dataset.left_out)
    fit = train if judged else train_unlabelled
    trained = fit(dataset.transactions, schema, recipe)
    for warning in trained.warnings:
        warn(warning)
    bundle = bundle_of(trained, schema, recipe, name=name, rules=rules, data=data)
    return Fitted(bundle, trained, dataset)


def bundle_of(
    trained: Trained,
    schema: Schema,
    recipe: Recipe,
    *,
    name: str,
    rules: tuple[str, str | None],
    data: tuple[str, ...],
) -> Bundle:
    """Return the bundle of a trained model, in memory.

    Args:
      trained: the model.
      schema: the schema of the rows.
      recipe: the recipe of the training.
      name: of the model.
      rules: the rules of the review and the decline threshold, for the card.
      data: names of the files or tables, for the card.
    """
    metrics = {}
    if trained.metrics is not None:
        metrics = {"rows_of": trained.reported_on, **trained.metrics.to_dict()}
    manifest = Manifest(
        name=name,
        kind=trained.kind.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        features=trained.features.names,
        **schema_fields(schema),
        thresholds=trained.thresholds,
        categories=trained.features.categories,
        settings=trained.settings,
        trained_on=trained.trained_on,
        metrics=metrics,
        microseconds_per_row=trained.microseconds_per_row,
    )
    card = model_card(name, trained, recipe, data, *rules)
    files = trained.kind.files(trained.model)
    if trained.reliability is not None:
        files[RELIABILITY_FILE] = trained.reliability.to_parquet()
    return make_bundle(trained.model, manifest, trained.reference, card, files)

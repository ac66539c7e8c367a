"""Train an unsupervised kind on rows without labels of both classes."""

from __future__ import annotations

import logging
import time

import numpy as np
import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.examples import Examples
from beam_fraud.models.predict import microseconds_per_row, predict_scores
from beam_fraud.models.reference import reference_of
from beam_fraud.models.split import split_by_time
from beam_fraud.models.threshold import OPTION, AlertBudget, Given, operating_points
from beam_fraud.models.training import DECLINE_OPTION, Recipe, Trained, choose_decline, span_of
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros
from beam_fraud.schema.schema import Schema

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
    _log.info("fitting %s on %d rows without labels", recipe.kind.name, len(split.train))
    candidate = recipe.kind.fit(earlier, recipe.seed)
    scores = predict_scores(candidate, examples.rows(split.valid, features).matrix)
    times = event_micros(transactions)[split.valid]
    days = int(times.max() - times.min()) / DAY
    points = operating_points(none[split.valid], scores, days)
    threshold = recipe.rule.choose(points)
    decline = choose_decline(recipe, points, threshold)
    features, fitted_on = examples.learn(split.refit)
    _log.info("fitting %s again on %d rows", recipe.kind.name, len(split.refit))
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
            "there are no labels of both frauds and genuine transactions, so nothing was measured: "
            "how many frauds it finds is unknown",
        ),
    )


def _refuse_what_needs_labels(recipe: Recipe) -> None:
    why = "the rows have no labels of both frauds and genuine transactions"
    for option, rule in ((OPTION, recipe.rule), (DECLINE_OPTION, recipe.decline)):
        if not isinstance(rule, AlertBudget | Given | None):
            raise FraudError(
                f"{why}, so {option} can only be budget=N (alerts a day) or a score from 0 to 1 "
                "(of ten thousand usual rows, 0.999 flags about ten)",
                Code.LABELS_NEEDED,
            )
    asked = {
        "--calibrate": recipe.calibrate is not None,
        "--tune": recipe.tuning is not None,
        "--folds": recipe.folds is not None,
        "--split stratified": recipe.split == "stratified",
        "--label-delay": bool(recipe.label_delay),
        "--drop-known-cards": recipe.drop_known_cards,
    }
    for option, given in asked.items():
        if given:
            raise FraudError(f"{option}: {why}; leave it out", Code.LABELS_NEEDED)

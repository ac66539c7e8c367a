"""Train a model: choose settings on later rows, then fit on all."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.calibration import Calibrated, Calibration, Method, learn_calibration
from beam_fraud.models.choosing import choose
from beam_fraud.models.examples import Examples, FoldRows
from beam_fraud.models.folds import (
    Division,
    Fold,
    FoldFigures,
    block_begins,
    chained_folds,
    fold_figures,
    split_by_time,
    split_stratified,
    stratified_folds,
    without_known_cards,
)
from beam_fraud.models.handbook import card_codes
from beam_fraud.models.kinds import ModelKind
from beam_fraud.models.manifest import Thresholds
from beam_fraud.models.metrics import Metrics, measure
from beam_fraud.models.predict import microseconds_per_row, predict_scores
from beam_fraud.models.reference import Reference, reference_of
from beam_fraud.models.reliability import Reliability, frauds_together
from beam_fraud.models.resampling.base import Resampler
from beam_fraud.models.resampling.compare import Tried, compare
from beam_fraud.models.threshold import (
    OPTION,
    FixedThreshold,
    Operating,
    ThresholdRule,
    operating_points,
)
from beam_fraud.models.tuning.trial import Tuned, Tuning
from beam_fraud.models.tuning.tune import tune
from beam_fraud.monitoring.activity import doing
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros, micros_of, moment_of
from beam_fraud.schema.schema import Schema


def checked_labels(transactions: pa.Table, schema: Schema) -> npt.NDArray[np.int8]:
    """Return the labels of n transactions, int8[n], of both classes.

    Raises:
      FraudError: there are no labels, no rows or only one class.
    """
    if schema.role("label") is None:
        raise FraudError(
            f"schema {schema.name}: no column is given for the role 'label', so there is nothing "
            "to learn from",
            Code.ROLE_MISSING,
        )
    if not transactions.num_rows:
        raise FraudError("no rows to train on in the files and times given", Code.INPUT_EMPTY)
    labels = np.asarray(transactions.column("label").to_numpy(), dtype=np.int8)
    _check(labels, "rows", "")
    return labels


def check_folds(division: Division, transactions: pa.Table, labels: npt.NDArray[np.int8]) -> None:
    """Check that every fold has both classes.

    Raises:
      FraudError: the training or validation rows of a fold have one class.
    """
    times = event_micros(transactions)
    several = len(division.folds) > 1
    for number, fold in enumerate(division.folds, 1):
        of, fewer = (f" of fold {number}", ", or fewer --folds") if several else ("", "")
        _check(labels[fold.train], f"rows to fit on{of}", fewer)
        if not len(fold.valid):
            raise FraudError(
                f"no validation rows{of} are left: all are of cards that are known to be "
                f"compromised by then; leave out --drop-known-cards{fewer}",
                Code.DIVISION_IMPOSSIBLE,
            )
        first, last = (moment_of(int(at(times[fold.valid]))).isoformat() for at in (np.min, np.max))
        _check(labels[fold.valid], f"validation rows{of} (from {first} to {last})", fewer)


def _check(labels: npt.NDArray[np.int8], rows: str, or_else: str) -> None:
    frauds = int(labels.sum())
    if not 0 < frauds < len(labels):
        only = "a fraud" if frauds else "genuine"
        raise FraudError(
            f"training needs frauds and genuine transactions: each of the {len(labels)} {rows} "
            f"is {only}; give other times (--from, --valid-from, --until){or_else}",
            Code.CLASSES_MISSING,
        )


_log = logging.getLogger(__name__)
#: The option of the decline threshold.
DECLINE_OPTION = "--decline"
#: With fewer frauds to choose or measure by, warn.
FEW_FRAUDS = 20


@dataclass(frozen=True)
class Recipe:
    """The recipe of a training."""

    #: The kind with its settings.
    kind: ModelKind
    #: Rule of the review threshold.
    rule: ThresholdRule
    #: Rule of the decline threshold; None declines nothing.
    decline: ThresholdRule | None = None
    #: Calibration method, applied before thresholds are chosen; None for none.
    calibrate: Method | None = None
    #: Whether to validate by later rows, or by a stratified random split.
    split: Literal["time", "stratified"] = "time"
    #: Begin of the validation rows of a split by time; None for the last fifth.
    valid_from: datetime | None = None
    #: End of the validation rows of a split by time: the model learns from later rows, and nothing
    #: is chosen by them; None for the last row.
    valid_until: datetime | None = None
    #: Number of folds; None for one split.
    folds: int | None = None
    #: Label delay in microseconds: no candidate is fitted on rows that are younger when its
    #: validation rows begin. Splits by time only.
    label_delay: int = 0
    #: Whether to drop validation rows of cards known to be compromised by then. Splits by time
    #: only.
    drop_known_cards: bool = False
    #: Resamplers to compare with none; empty to train the kind as it is.
    resamplers: tuple[Resampler, ...] = ()
    #: Tuning on the validation rows; None for none.
    tuning: Tuning | None = None
    #: Of everything random.
    seed: int = 0

    @property
    def in_folds(self) -> bool:
        """Return whether figures of each fold apply: more than a plain split is asked for."""
        return self.folds is not None or bool(self.label_delay) or self.drop_known_cards


@dataclass(frozen=True)
class Budgeted:
    """Thresholds that keep a budget of alerts on rows after those that were fitted."""

    thresholds: Thresholds
    #: Number of the rows, and of those flagged a day.
    rows: int
    per_day: float
    #: First and last event time of the rows, ISO 8601.
    span: tuple[str, str]


@dataclass(frozen=True)
class Trained:
    """A trained model with its figures."""

    #: The classifier, fitted on all rows that were not held out.
    model: Any
    #: The kind with the chosen settings.
    kind: ModelKind
    #: The model's features with their category lists.
    features: FeatureSet
    #: The score from which to flag, as the validation rows chose it.
    threshold: float
    #: The score from which to decline, or None.
    decline: float | None
    #: Figures of the rows in `reported_on`; None without labels.
    metrics: Metrics | None
    #: Description of the measured rows and of what they were not used for.
    reported_on: Literal["validation", "held_out"]
    #: int8[n] and float64[n]: labels and scores of those rows.
    labels: npt.NDArray[np.int8]
    scores: npt.NDArray[np.float64]
    #: float64[n]: their amounts.
    amounts: npt.NDArray[np.float64]
    #: First and last event time of the validation rows, ISO 8601.
    validated_on: tuple[str, str]
    #: First and last event time of the final training rows, ISO 8601.
    trained_on: tuple[str, str]
    #: Number of rows: `train` of the last fold, `valid` of all folds, `held_out`, and `refit` of
    #: the final fit.
    sizes: dict[str, int]
    #: Frauds among the rows of the final fit; None without labels.
    frauds: int | None
    #: Distributions of the fitted features, and of scores of rows not fitted on.
    reference: Reference
    #: Microseconds per row of a prediction on one thread.
    microseconds_per_row: float
    #: Seconds of the whole training.
    seconds: float
    #: Calibration inside `model`, or None.
    calibration: Calibration | None = None
    #: The rows of `reported_on` by score; None without labels.
    reliability: Reliability | None = None
    #: Figures of each fold; empty for a plain split.
    folds: tuple[FoldFigures, ...] = ()
    #: Results of each resampler on the validation rows; empty without a comparison.
    tried: tuple[Tried, ...] = ()
    #: Result of the tuning, or None.
    tuned: Tuned | None = None
    #: Warnings about the model.
    warnings: tuple[str, ...] = ()
    #: The thresholds in force instead; None for `threshold` and `decline`.
    budgeted: Budgeted | None = None

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds in force."""
        if self.budgeted is not None:
            return self.budgeted.thresholds
        return Thresholds(self.threshold, self.decline)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the kind, as they were chosen."""
        return self.kind.settings


def train(
    transactions: pa.Table,
    schema: Schema,
    recipe: Recipe,
    repeats: npt.NDArray[np.int64] | None = None,
) -> Trained:
    """Train a model.

    Args:
      transactions: n rows as `schema.transactions(labels="required")` describes them, in time
        order.
      schema: the schema of the rows.
      recipe: the recipe.
      repeats: int64[n], how often each row is fitted on, for rows that stand for others; None for
        once. Validation rows count as often where their average precision chooses settings, and
        once for thresholds and figures.

    Raises:
      FraudError: labels, rows or a class are missing where they are needed, the target of the
        threshold is out of reach, or the decline threshold is below review.
    """
    start = time.perf_counter()
    examples = Examples(transactions, checked_labels(transactions, schema), schema, repeats)
    division = divide(examples, recipe)
    check_folds(division, transactions, examples.labels)

    rows = FoldRows(examples, division.folds)
    _log.info("fitting %s on %s rows", recipe.kind.name, _sizes(division))
    tried: tuple[Tried, ...] = ()
    tuned = None if recipe.tuning is None else _tune(recipe, recipe.tuning, rows)
    if tuned is not None:
        chosen = tuned.chosen
    elif recipe.resamplers:
        chosen, tried = compare(recipe.kind, recipe.resamplers, rows, recipe.seed)
    else:
        chosen = choose(recipe.kind, rows, recipe.seed)
    valid_labels, valid_scores = examples.labels[division.valid], np.concatenate(chosen.scores)
    calibration = None
    if recipe.calibrate is not None:
        # Choose the threshold on the rows of the calibration too: an increasing map flags the same
        # rows as the scores, and halves of few frauds would serve both worse.
        calibration = learn_calibration(recipe.calibrate, valid_labels, valid_scores)
        valid_scores = calibration(valid_scores)
    valid_times = event_micros(transactions)[division.valid]
    days = int(valid_times.max() - valid_times.min()) / DAY
    amounts = examples.amounts(division.valid)
    points = operating_points(valid_labels, valid_scores, days, amounts)
    threshold = recipe.rule.choose(points)
    decline = choose_decline(recipe, points, threshold)

    features, fitted_on = examples.learn(division.refit)
    _log.info("fitting %s again on %s rows", chosen.kind.name, f"{len(division.refit):,}")
    with doing(f"fitting {chosen.kind.name} again on {len(division.refit):,} rows"):
        model = chosen.kind.fit(fitted_on, recipe.seed)
    if calibration is not None:
        model = Calibrated(model, calibration)
    if repeats is not None:
        # References and counts are of rows, each once.
        fitted_on = examples.rows(division.refit, features)
    reported, labels, scores = division.valid, valid_labels, valid_scores
    if len(division.held_out):
        reported = division.held_out
        held_out = examples.rows(division.held_out, features)
        with doing(f"scoring {len(division.held_out):,} rows that were held out"):
            labels, scores = held_out.labels, predict_scores(model, held_out.matrix)
    return Trained(
        model=model,
        kind=chosen.kind,
        features=features,
        threshold=threshold,
        decline=decline,
        metrics=measure(labels, scores, threshold),
        reported_on="held_out" if len(division.held_out) else "validation",
        labels=labels,
        scores=scores,
        amounts=examples.amounts(reported),
        validated_on=span_of(transactions, division.valid),
        trained_on=span_of(transactions, division.refit),
        sizes={
            "train": len(division.folds[-1].train),
            "valid": len(division.valid),
            "held_out": len(division.held_out),
            "refit": len(division.refit),
        },
        frauds=int(fitted_on.labels.sum()),
        calibration=calibration,
        reliability=_reliability(transactions, reported, labels, scores),
        folds=_folds(examples, division, chosen.scores) if recipe.in_folds else (),
        reference=reference_of(fitted_on.matrix, features, scores),
        microseconds_per_row=microseconds_per_row(model, fitted_on.matrix),
        seconds=round(time.perf_counter() - start, 3),
        tried=tried,
        tuned=tuned,
        warnings=_few_frauds(recipe, points.frauds, int(labels.sum())),
    )


def _reliability(
    transactions: pa.Table,
    at: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int8],
    scores: npt.NDArray[np.float64],
) -> Reliability:
    """Count rows at some positions by score, int8[n] labels and float64[n] scores."""
    frauds = transactions.take(pa.array(at[labels == 1]))
    keys = [
        frauds.column(name).combine_chunks().dictionary_encode().indices.to_numpy()
        for name in ("account_id", "merchant_id")
        if name in frauds.column_names and not frauds.column(name).null_count
    ]
    weeks = event_micros(frauds) // (7 * DAY)
    return Reliability.of(labels, scores, frauds_together(weeks, keys))


def _few_frauds(recipe: Recipe, valid: int, reported: int) -> tuple[str, ...]:
    warnings = []
    if valid < FEW_FRAUDS:
        rests = (
            "the settings"
            if isinstance(recipe.rule, FixedThreshold)
            else "the threshold, the settings"
        )
        warnings.append(
            f"the validation rows hold {valid} {_frauds(valid)} only: {rests} and the figures rest "
            f"on fewer than {FEW_FRAUDS} and mean little; give an earlier --valid-from, --folds or "
            "more rows"
        )
    if reported < min(valid, FEW_FRAUDS):
        warnings.append(
            f"the held-out rows hold {reported} {_frauds(reported)} only: figures mean little"
        )
    return tuple(warnings)


def _frauds(count: int) -> str:
    return "fraud" if count == 1 else "frauds"


def _tune(recipe: Recipe, tuning: Tuning, rows: FoldRows) -> Tuned:
    # Everything that the figures of trials depend on; neither the duration of the search nor the
    # threshold.
    same = replace(recipe, tuning=None, rule=FixedThreshold(0.0), decline=None, calibrate=None)
    return tune(recipe.kind, rows, recipe.seed, tuning, repr((same, sorted(tuning.fixed))))


def divide(examples: Examples, recipe: Recipe) -> Division:
    """Return the use of each row.

    Raises:
      FraudError: the rows do not allow the division.
    """
    if recipe.split == "stratified":
        if recipe.folds is not None:
            return stratified_folds(examples.labels, recipe.folds, recipe.seed)
        split = split_stratified(examples.labels, recipe.seed)
        return Division((Fold(split.train, split.valid),), split.refit, split.held_out)
    times = event_micros(examples.transactions)
    if recipe.folds is None:
        event_time = examples.transactions.column("event_time")
        first = split_by_time(event_time, recipe.valid_from).valid[0]
        begin = times[first] if recipe.valid_from is None else micros_of(recipe.valid_from)
        begins = np.array([begin])
    else:
        begins = block_begins(times, recipe.folds, recipe.valid_from, recipe.label_delay)
    division = chained_folds(times, begins, recipe.label_delay)
    if recipe.valid_until is not None:
        division = division.validated_until(times, micros_of(recipe.valid_until))
    if not recipe.drop_known_cards:
        return division
    cards = card_codes(examples.transactions)
    return without_known_cards(division, times, cards, examples.labels, recipe.label_delay)


def _folds(
    examples: Examples, division: Division, scores: tuple[npt.NDArray[np.float64], ...]
) -> tuple[FoldFigures, ...]:
    times = event_micros(examples.transactions)
    has_cards = examples.schema.role("account_id") is not None
    cards = card_codes(examples.transactions) if has_cards else None
    return tuple(
        fold_figures(fold, times, examples.labels, of_fold, cards)
        for fold, of_fold in zip(division.folds, scores, strict=True)
    )


def _sizes(division: Division) -> str:
    return ", ".join(f"{len(fold.train):,}" for fold in division.folds)


def choose_decline(recipe: Recipe, points: Operating, review: float) -> float | None:
    """Return the decline threshold, not below review; None declines nothing."""
    if recipe.decline is None:
        return None
    decline = recipe.decline.choose(points, DECLINE_OPTION)
    if decline < review:
        raise FraudError(
            f"{DECLINE_OPTION}: gives a score of {decline:.6g}, which is below the {review:.6g} "
            f"of {OPTION}; ask {DECLINE_OPTION} for a higher precision or fewer alerts",
            Code.THRESHOLD_UNREACHABLE,
        )
    return decline


def span_of(transactions: pa.Table, at: npt.NDArray[np.int64]) -> tuple[str, str]:
    """First and last event time of the rows at these positions, ISO 8601."""
    times = transactions.column("event_time").take(pa.array(at))
    first, last = (value.as_py().isoformat() for value in pc.min_max(times).values())
    return first, last

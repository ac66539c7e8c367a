"""What a challenger learns from: weights of labels, periods, and the champion's own recipe."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from beam_fraud.errors import Code
from beam_fraud.features.dataset import load_dataset
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.card.figures import thresholds_section
from beam_fraud.models.class_weight import with_class_weight
from beam_fraud.models.kinds import KINDS, ModelKind, model_kind
from beam_fraud.models.label_delay import DelayEstimate
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.recorded_kind import recorded_kind
from beam_fraud.models.resampling import resampled
from beam_fraud.models.threshold import AlertBudget, FixedThreshold, MostF1, ThresholdRule
from beam_fraud.models.training import Recipe, Trained
from beam_fraud.operations.retraining.challenger import Archive, fit_again
from beam_fraud.operations.retraining.periods import LabelledTimes, Periods, periods_of
from beam_fraud.operations.retraining.weights import audit_weights, delay_weights
from beam_fraud.records.label_file import NEVER
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.simulate.simulation import Simulation, simulate
from tests.failing import fails
from tests.models.registering import MANIFEST, small_bundle

Ints = npt.NDArray[np.int64]


def test_frauds_of_the_audit_stand_for_those_that_were_not_shown() -> None:
    # Two flagged frauds, one audited fraud and one audited genuine row, two others.
    labels = np.array([1, 1, 1, 0, 0, 0], dtype=np.int8)
    seen = np.array([1.0, 1.0, 0.05, 0.05, np.nan, np.nan])
    weights = audit_weights(labels, seen)
    assert weights.values.tolist() == [1, 1, 20, 1, 1, 1]
    assert (weights.audited, weights.reported) == (1, 0)
    assert weights.effective(labels) == pytest.approx(22**2 / (1 + 1 + 400))


def test_frauds_that_are_reported_otherwise_are_not_counted_twice() -> None:
    # The audit stands for 40 frauds: 2 of its own, 19 that were charged back, and 19 others.
    labels = np.ones(21, dtype=np.int8)
    seen = np.array([0.05, *[np.nan] * 19, 0.05])
    weights = audit_weights(labels, seen)
    assert weights.values.sum() == pytest.approx(40)
    assert weights.values[0] == pytest.approx(1 + 19 * 0.5)
    # More reports than the audit expects: it stands for itself.
    many = np.ones(101, dtype=np.int8)
    assert audit_weights(many, np.array([0.05, *[np.nan] * 99, 0.05])).repeats(0) is None


def test_what_was_reported_before_and_after_the_audit_takes_nothing_from_it() -> None:
    # From a genuine row of the audit to another: one fraud of its own, one charged back.
    labels = np.array([1, 1, 1, 0, 1, 1, 0, 1], dtype=np.int8)
    seen = np.array([np.nan, np.nan, 1.0, 0.1, 0.1, np.nan, 0.1, np.nan])
    weights = audit_weights(labels, seen)
    assert weights.reported == 1
    assert weights.values.tolist() == pytest.approx([1, 1, 1, 1, 9, 1, 1, 1])


def test_the_weighted_number_of_frauds_is_unbiased() -> None:
    random = np.random.default_rng(1)
    fraud = random.random(20_000) < 0.02
    totals = []
    for _ in range(100):
        audited = random.random(20_000) < 0.05
        labels = (fraud & audited).astype(np.int8)
        weights = audit_weights(labels, np.where(audited, 0.05, np.nan))
        repeats = weights.repeats(int(random.integers(1000)))
        assert repeats is not None
        totals.append(repeats[labels == 1].sum())
    error = np.std(totals) / np.sqrt(len(totals))
    assert abs(np.mean(totals) - fraud.sum()) < 4 * error


def test_fractional_weights_are_rounded_at_random_and_repeatable() -> None:
    labels = np.ones(1000, dtype=np.int8)
    weights = replace(audit_weights(labels, np.ones(1000)), values=np.full(1000, 1.25))
    repeats = weights.repeats(3)
    assert repeats is not None
    assert set(repeats.tolist()) == {1, 2}
    assert 1.2 < repeats.mean() < 1.3
    again = weights.repeats(3)
    assert again is not None
    assert (again == repeats).all()


def test_young_frauds_stand_for_those_whose_labels_are_still_to_come() -> None:
    delays = DelayEstimate(np.array([1, 2, 4]) * DAY, np.array([0.2, 0.5, 1.0]))
    labels = np.array([1, 0, 1, 1, 0], dtype=np.int8)
    ages = np.array([9, 5, 3, 2, 1]) * DAY
    weights, count = delay_weights(labels, ages, delays)
    # Of rows a day old too few labels are there.
    assert count == 4
    assert weights.tolist() == [1, 1, 2, 2]


def rows(days: int, as_of: int) -> LabelledTimes:
    times = np.arange(days, dtype=np.int64) * DAY
    return LabelledTimes(times, np.zeros(days, np.int8), np.full(days, NEVER), as_of)


def test_the_newest_mature_rows_are_compared(tmp_path: Path) -> None:
    champion = small_bundle(tmp_path / "b")
    periods = periods_of(rows(100, 100 * DAY), 20 * DAY, 30 * DAY, champion)
    times = np.arange(100, dtype=np.int64) * DAY
    # Rows of day 80 are exactly 20 days old.
    assert (periods.learned(times), periods.mature(times)) == (51, 81)


def test_rows_that_the_champion_was_fitted_on_are_not_compared(tmp_path: Path) -> None:
    champion = small_bundle(tmp_path / "b")
    until = ("1970-01-01T00:00:00+00:00", "1970-03-02T00:00:00+00:00")
    fitted = replace(champion, manifest=replace(champion.manifest, trained_on=until))
    times = np.arange(100, dtype=np.int64) * DAY
    periods = periods_of(rows(100, 100 * DAY), 20 * DAY, 30 * DAY, fitted)
    assert (periods.learned(times), periods.mature(times)) == (61, 81)
    # Nothing that is mature is new to it.
    periods = periods_of(rows(100, 100 * DAY), 50 * DAY, 30 * DAY, fitted)
    assert periods.learned(times) == periods.mature(times) == 51


def test_the_delay_of_labels_is_estimated_from_the_frauds_with_times() -> None:
    random = np.random.default_rng(0)
    times = np.sort(random.integers(0, 100 * DAY, 4000))
    delays = random.integers(0, 10 * DAY, 4000)
    known = times + delays <= 100 * DAY
    labelled = LabelledTimes(
        times, known.astype(np.int8), np.where(known, times + delays, NEVER), 100 * DAY
    )
    estimate = labelled.delays()
    assert estimate is not None
    assert 9.3 < estimate.quantile(0.95) / DAY < 9.7
    assert LabelledTimes(times, np.zeros(4000, np.int8), labelled.known_at, 0).delays() is None


@pytest.mark.parametrize(
    "kind",
    [
        *(kind for name, kind in KINDS.items()),
        model_kind("average:forest+forest+logistic", ["forest_2.trees=7", "logistic.c=0.5"]),
        model_kind("stacking:forest+hist_gradient_boosting", ["c=2"]),
        resampled(model_kind("logistic"), "under=0.5"),
        resampled(model_kind("average:forest+logistic"), "under=0.5"),
        with_class_weight(model_kind("forest", ["trees=9"]), "balanced"),
    ],
    ids=lambda kind: kind.name,
)
def test_a_kind_is_found_again_in_a_manifest(kind: ModelKind) -> None:
    settings = json.loads(json.dumps(kind.settings))
    manifest = replace(MANIFEST, kind=kind.name, settings=settings)
    again = recorded_kind(manifest, "m@1")
    assert again == kind
    assert again.settings == kind.settings


def test_the_number_of_trees_is_chosen_again() -> None:
    chosen = model_kind("hist_gradient_boosting", ["trees=12", "leaves=5"])
    manifest = replace(MANIFEST, kind=chosen.name, settings=chosen.settings)
    assert recorded_kind(manifest, "m@1").settings == {**chosen.settings, "trees": 150}
    fixed = model_kind("hist_gradient_boosting", ["trees=12", "fixed=true"])
    manifest = replace(MANIFEST, kind=fixed.name, settings=fixed.settings)
    assert recorded_kind(manifest, "m@1") == fixed


def test_an_imported_model_cannot_be_trained_again() -> None:
    with fails(Code.MODEL_KIND, "m@1"):
        recorded_kind(MANIFEST, "m@1")


@pytest.fixture(scope="module")
def archive() -> Archive:
    """Seven weeks of a shop, all labelled."""
    spec = Simulation(days=49, accounts=150, merchants=300, fraud_rate=0.03, seed=2)
    rows = load_dataset(simulate(spec), HANDBOOK).transactions
    return Archive.of(rows, HANDBOOK, None)


def _again(archive: Archive, rule: ThresholdRule, decline: ThresholdRule | None = None) -> Trained:
    """Fit a model on rows that are at least a week old."""
    as_of = archive.labelled.as_of
    mature_until = as_of - 7 * DAY + 1
    periods = Periods(as_of, 7 * DAY, mature_until - 7 * DAY, mature_until)
    recipe = Recipe(kind=model_kind("hist_gradient_boosting"), rule=rule, decline=decline)
    return fit_again(archive, periods, recipe, None)


def _flagged_a_day(archive: Archive, trained: Trained, threshold: float) -> float:
    """Return what a threshold flags a day of the last week, which was not fitted."""
    first = trained.sizes["refit"]
    rows = archive.transactions.slice(first)
    scores = predict_scores(trained.model, feature_matrix(rows, trained.features))
    times = archive.labelled.times[first:]
    return np.count_nonzero(scores >= threshold) / (int(times[-1] - times[0]) / DAY)


def test_a_budget_is_kept_on_rows_that_were_not_fitted(archive: Archive) -> None:
    trained = _again(archive, AlertBudget(20.0), AlertBudget(5.0))
    assert trained.budgeted is not None
    review, decline = trained.thresholds.review, trained.thresholds.decline
    assert decline is not None
    assert 17.0 < _flagged_a_day(archive, trained, review) <= 20.0
    assert 3.5 < _flagged_a_day(archive, trained, decline) <= 5.0
    assert trained.budgeted.per_day == pytest.approx(_flagged_a_day(archive, trained, review))
    # The threshold of a model of fewer rows keeps it on other rows alone.
    assert not 17.0 < _flagged_a_day(archive, trained, trained.threshold) <= 20.0
    card = thresholds_section(trained, "budget=20", "budget=5")
    assert f"a score of {review:.6g} or more is flagged" in card
    assert f"A score of {trained.threshold:.6g} or more is flagged" in card


def test_labels_of_young_rows_choose_nothing(archive: Archive) -> None:
    first = int(np.searchsorted(archive.labelled.times, archive.labelled.as_of - 7 * DAY + 1))
    labels = archive.labelled.labels.copy()
    labels[first:] = 1 - labels[first:]
    place = archive.transactions.column_names.index("label")
    rows = archive.transactions.set_column(place, "label", pa.array(labels))
    other = Archive.of(rows, HANDBOOK, None)
    same = [_again(one, AlertBudget(20.0)).thresholds for one in (archive, other)]
    assert same[0] == same[1]


def test_other_rules_and_few_alerts_keep_the_threshold_of_the_validation_rows(
    archive: Archive,
) -> None:
    for rule in (MostF1(), FixedThreshold(0.5), AlertBudget(3.0)):
        trained = _again(archive, rule)
        assert trained.budgeted is None
        assert trained.thresholds.review == trained.threshold

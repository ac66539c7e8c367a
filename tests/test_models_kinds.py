"""The contract that every kind of model keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from threadpoolctl import threadpool_limits

from beam_fraud.errors import UsageError
from beam_fraud.models.bundle import load_model, open_bundle, write_bundle
from beam_fraud.models.kinds import KINDS, ModelKind, model_kind
from beam_fraud.models.kinds.hist_gradient_boosting import HistGradientBoosting
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.manifest import Manifest, Thresholds
from beam_fraud.models.predict import check_classifier, predict_scores
from beam_fraud.models.reference import Reference
from beam_fraud.schema import FeatureColumn, Schema

SCHEMA = Schema(
    name="test",
    roles={"event_time": "t", "amount": "a"},
    features=(FeatureColumn("noise"), FeatureColumn("mcc", "categorical", "allow")),
    calendar=False,
)
FEATURES = ("noise", "mcc", "amount")


def rows(n: int = 3000, seed: int = 0) -> LabelledRows:
    """Large amounts in category 2 are frauds; one value in twenty is absent."""
    random = np.random.default_rng(seed)
    noise, mcc = random.normal(size=n), random.integers(0, 4, size=n).astype(float)
    amount = random.lognormal(3, 1, size=n)
    labels = ((amount > 30) & (mcc == 2) & (random.random(n) < 0.8)).astype(np.int8)
    matrix = np.column_stack([noise, mcc, amount])
    matrix[random.random(matrix.shape) < 0.05] = np.nan
    return LabelledRows(matrix, labels, categorical=(1,))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # OpenMP threads that wait for a busy core make boosting many times slower.
    with threadpool_limits(1):
        yield


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> ModelKind:
    return quick(KINDS[request.param])


def quick(kind: ModelKind) -> ModelKind:
    """An ensemble of members that are fitted in no time; other kinds as they are."""
    for name, part in kind.parts.items():
        kind = kind.with_part(name, replace(part, trees=10))  # type: ignore[call-arg]
    return kind


def test_it_tells_frauds_from_genuine_ones(kind: ModelKind) -> None:
    later = rows(seed=1)
    scores = predict_scores(kind.fit(rows(), seed=0), later.matrix)
    assert scores.dtype == np.float64
    assert scores.shape == (3000,)
    assert scores.min() >= 0
    assert scores.max() <= 1
    # One row in ten is a fraud; who learns without labels can't know that it is category 2.
    assert not kind.supervised or average_precision_score(later.labels, scores) > 0.5


def test_a_seed_gives_one_model(kind: ModelKind) -> None:
    later = rows(seed=1).matrix
    one, same = (predict_scores(kind.fit(rows(), seed=7), later) for _ in range(2))
    assert np.array_equal(one, same)


def test_validation_scores_are_those_of_the_settings_it_chose(kind: ModelKind) -> None:
    valid = rows(seed=1)
    chosen, scores = kind.validate(rows(), valid, seed=0)
    assert np.allclose(scores, predict_scores(chosen.fit(rows(), seed=0), valid.matrix))


def test_absent_and_unknown_values_have_a_score(kind: ModelKind) -> None:
    model = kind.fit(rows(), seed=0)
    odd = np.array([[np.nan, np.nan, np.nan], [0.0, 4.0, 10.0], [1e9, 0.0, -1e9]])
    assert np.isfinite(predict_scores(model, odd)).all()


def test_values_absent_only_when_scoring_or_throughout_have_a_score(kind: ModelKind) -> None:
    complete = np.nan_to_num(rows().matrix)
    complete[:, 0] = np.nan
    model = kind.fit(LabelledRows(complete, rows().labels, (1,)), seed=0)
    assert np.isfinite(predict_scores(model, np.full((1, 3), np.nan))).all()
    assert np.isfinite(predict_scores(model, np.zeros((1, 3)))).all()


def test_it_survives_a_bundle_and_predicts_on_one_thread(kind: ModelKind, tmp_path: Path) -> None:
    model = kind.fit(rows(), seed=0)
    manifest = Manifest(
        name="test",
        kind=kind.name,
        created="2024-01-01T00:00:00+00:00",
        features=FEATURES,
        schema=SCHEMA.to_dict(),
        thresholds=Thresholds(0.5),
    )
    write_bundle(str(tmp_path / "bundle"), model, manifest, Reference(), "# test")
    loaded = load_model(open_bundle(str(tmp_path / "bundle")))
    check_classifier(loaded, 3)
    parameters = loaded.get_params(deep=True)
    assert all(v in (None, 1) for k, v in parameters.items() if k.endswith("n_jobs"))
    later = rows(seed=1).matrix
    assert np.array_equal(predict_scores(loaded, later), predict_scores(model, later))


def test_no_rows_have_no_scores(kind: ModelKind) -> None:
    assert predict_scores(kind.fit(rows(), seed=0), np.empty((0, 3))).shape == (0,)


def test_boosting_takes_no_more_trees_than_later_rows_call_for() -> None:
    chosen, _ = HistGradientBoosting(trees=60).validate(rows(), rows(seed=1), seed=0)
    exact, _ = HistGradientBoosting(trees=60, tolerance=0.0).validate(rows(), rows(seed=1), seed=0)
    assert 1 <= chosen.trees <= exact.trees <= 60


@pytest.mark.parametrize("categories", [254, 255, 256, 400])
def test_boosting_takes_any_number_of_categories(categories: int) -> None:
    codes = np.arange(3000, dtype=float) % categories
    labels = (codes == 7).astype(np.int8)
    model = HistGradientBoosting(trees=5).fit(LabelledRows(codes[:, None], labels, (0,)), seed=0)
    known, other, unknown, absent = predict_scores(
        model, np.array([[7.0], [100.0], [float(categories)], [np.nan]])
    )
    assert known > other
    assert np.isfinite([unknown, absent]).all()


def test_an_unknown_kind_is_told_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean forest"):
        model_kind("forrest")
    with pytest.raises(UsageError, match="kinds: logistic, forest, extra_trees"):
        model_kind("zzz")

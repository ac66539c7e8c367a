"""Resamplers: their input, their output, and the rows that they must not change."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.dummy import DummyClassifier

from beam_fraud.decisions.reasons.registry import explainer_of
from beam_fraud.errors import Code, UsageError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.folds import split_stratified
from beam_fraud.models.kinds import ModelKind, model_kind
from beam_fraud.models.kinds.hist_gradient_boosting import HistGradientBoosting
from beam_fraud.models.kinds.logistic import Logistic
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.reference import Reference
from beam_fraud.models.resampling import RESAMPLERS, Resampled, Resampler, resampled, resampler
from beam_fraud.models.resampling.base import resamplers_of
from beam_fraud.models.resampling.under import PriorCorrected, corrected, linked
from beam_fraud.models.threshold import MostF1
from beam_fraud.models.training import Recipe, train
from tests import spying
from tests.failing import fails
from tests.hourly import SCHEMA, examples, hourly

#: Column of a row's own number, and of what is whole.
ID, COUNT, AMOUNT, CODE = range(4)
FAST = HistGradientBoosting(trees=5)


def rows(n: int = 600, seed: int = 0, categorical: bool = False) -> LabelledRows:
    """Rows of which the first column is their number, and 5 % are frauds."""
    random = np.random.default_rng(seed)
    labels = (np.arange(n) % 20 == 0).astype(np.int8)
    matrix = np.column_stack(
        [
            np.arange(n) + 1000.0 * seed,
            random.poisson(3, n) + 4 * labels,
            random.lognormal(3, 1, n) * (1 + 2 * labels),
            random.integers(0, 4, n),
        ]
    )
    matrix[random.random(n) < 0.2, AMOUNT] = np.nan
    if categorical:
        matrix[random.random(n) < 0.1, CODE] = np.nan
    return LabelledRows(matrix, labels, (CODE,) if categorical else ())


def real_ones(made: LabelledRows, given: LabelledRows) -> npt.NDArray[np.bool_]:
    """Return a mask of the rows that equal an input row bit for bit."""
    known = {row.tobytes() for row in given.matrix}
    return np.array([row.tobytes() in known for row in made.matrix])


@pytest.fixture(params=sorted(RESAMPLERS))
def way(request: pytest.FixtureRequest) -> Resampler:
    return RESAMPLERS[request.param]


@pytest.mark.parametrize("categorical", [False, True])
def test_real_rows_stay_unchanged_and_only_frauds_are_synthetic(
    way: Resampler, categorical: bool
) -> None:
    labelled = rows(categorical=categorical)
    if categorical and way.name == "adasyn":
        with fails(Code.RESAMPLING_IMPOSSIBLE, r"^--resample adasyn=0.1: .* use smote$"):
            way.resample(labelled, 0)
        return
    created = way.resample(labelled, 0)
    real = real_ones(created, labelled)
    assert (created.labels[~real] == 1).all()
    assert len(np.unique(created.matrix[real, ID])) == real.sum()
    assert created.categorical == labelled.categorical
    if way.name in ("smote", "adasyn"):
        assert real.sum() == len(labelled.labels)
    if way.name in ("under", "tomek", "balanced-bagging"):
        assert real.all()
        assert created.labels.sum() == labelled.labels.sum()
    if way.name in ("under", "smote", "balanced-bagging"):
        frauds = created.labels.sum()
        assert frauds / (len(created.labels) - frauds) == pytest.approx(0.1, rel=0.02)


def test_synthetic_rows_are_plausible() -> None:
    labelled = rows(categorical=True)
    created = RESAMPLERS["smote"].resample(labelled, 0).matrix[len(labelled.labels) :]
    assert len(created)
    assert (created[:, COUNT] == np.rint(created[:, COUNT])).all()
    frauds = labelled.matrix[labelled.labels == 1]
    codes = set(np.unique(np.nan_to_num(frauds[:, CODE], nan=-1)))
    assert set(np.nan_to_num(created[:, CODE], nan=-1)) <= codes
    # As many lack an amount as among real frauds, more or less.
    lacking = np.isnan(created[:, AMOUNT]).mean()
    assert 0 < lacking < 1
    assert np.nanmin(created[:, AMOUNT]) >= np.nanmin(frauds[:, AMOUNT]) - 1e-9
    assert np.nanmax(created[:, AMOUNT]) <= np.nanmax(frauds[:, AMOUNT]) + 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_tomek_links_are_those_of_imbalanced_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(400, 2))
    labels = (random.random(400) < 0.2).astype(np.int8)
    library = pytest.importorskip("imblearn.under_sampling").TomekLinks()
    library.fit_resample(matrix, labels)
    dropped = np.setdiff1d(np.arange(400), library.sample_indices_)
    assert len(dropped) > 5
    assert np.array_equal(linked(matrix, labels), dropped)
    assert len(linked(matrix, np.zeros(400, np.int8))) == 0


def test_a_seed_gives_one_model(way: Resampler) -> None:
    labelled = rows()
    first, again = (way.fit(FAST, labelled, 7) for _ in range(2))
    assert np.array_equal(
        predict_scores(first, labelled.matrix), predict_scores(again, labelled.matrix)
    )


def test_a_model_scores_where_imbalanced_learn_is_not_installed(
    way: Resampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    import joblib

    saved = io.BytesIO()
    labelled = rows()
    model = way.fit(FAST, labelled, 0)
    joblib.dump(model, saved)
    saved.seek(0)
    for name in [name for name in sys.modules if name.split(".")[0] == "imblearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "imblearn", None)
    scores = predict_scores(joblib.load(saved), labelled.matrix)
    assert np.array_equal(scores, predict_scores(model, labelled.matrix))
    assert 0 <= scores.min() <= scores.max() <= 1


def test_an_absent_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imblearn.under_sampling", None)
    monkeypatch.setitem(sys.modules, "imblearn", None)
    with fails(Code.EXTRA_MISSING, r"^--resample under: .*beam-fraud\[resampling\]"):
        RESAMPLERS["under"].resample(rows(), 0)


@dataclass(frozen=True)
class Spy(ModelKind):
    """Records the rows of its fits and choices."""

    name: ClassVar[str] = "spy"
    fitted_on: list[LabelledRows] = field(default_factory=list)
    chosen_by: list[LabelledRows] = field(default_factory=list)

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        return DummyClassifier(strategy="prior")

    def fit(self, rows: LabelledRows, seed: int) -> Any:
        self.fitted_on.append(rows)
        return super().fit(rows, seed)

    def validate(self, train: LabelledRows, valid: LabelledRows, seed: int) -> Any:
        self.chosen_by.append(valid)
        return super().validate(train, valid, seed)


def test_validation_rows_are_never_resampled(way: Resampler) -> None:
    train, valid = rows(), rows(200, seed=1)
    spy = Spy()
    _, scores = Resampled(spy, way).validate(train, valid, 0)
    assert len(scores) == len(valid.labels)
    assert all(value is valid for value in spy.chosen_by)
    numbers = set(valid.matrix[:, ID])
    for fitted_on in spy.fitted_on:
        real = real_ones(fitted_on, train)
        assert not numbers & set(fitted_on.matrix[real, ID])
        assert len(fitted_on.labels) != len(train.labels) or way.name == "tomek"


def test_the_number_of_trees_is_chosen_on_untouched_rows(way: Resampler) -> None:
    train, valid = rows(), rows(200, seed=1)
    kind, _ = Resampled(HistGradientBoosting(trees=30, tolerance=0.3), way).validate(
        train, valid, 0
    )
    assert isinstance(kind.kind, HistGradientBoosting)
    assert kind.kind.trees < 30
    assert kind.settings["resample"] == str(way)
    assert kind.settings["trees"] == kind.kind.trees
    assert kind.name == "hist_gradient_boosting"


def test_scores_after_under_sampling_are_those_of_all_rows() -> None:
    random = np.random.default_rng(0)
    signal = random.normal(size=20_000)
    labels = (random.random(20_000) < 1 / (1 + np.exp(4 - 2 * signal))).astype(np.int8)
    given = LabelledRows(signal.reshape(-1, 1), labels)

    @dataclass(frozen=True)
    class Unweighted(Logistic):
        def estimator(self, rows: LabelledRows, seed: int) -> Any:
            return super().estimator(rows, seed).set_params(logisticregression__class_weight=None)

    whole = predict_scores(Unweighted().fit(given, 0), given.matrix)
    model = resampler("under=0.5").fit(Unweighted(), given, 0)
    scores = predict_scores(model, given.matrix)
    assert isinstance(model, PriorCorrected)
    assert scores.mean() == pytest.approx(labels.mean(), rel=0.05)
    assert np.abs(scores - whole).max() < 0.1
    raw = predict_scores(model.model, given.matrix)
    assert raw.mean() > 2 * labels.mean()
    assert np.array_equal(np.argsort(raw), np.argsort(scores))


def test_the_correction_is_monotone_and_stays_between_0_and_1() -> None:
    scores = np.linspace(0, 1, 1001)
    for stored in (1e-6, 0.1, 1.0):
        put_back = corrected(scores, stored)
        assert (np.diff(put_back) >= 0).all()
        assert (put_back[0], put_back[-1]) == (0.0, 1.0)
    assert np.allclose(corrected(scores, 1.0), scores)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smot", "did you mean smote"),
        ("under=2", "above 0 and up to 1"),
        ("under=", "above 0 and up to 1"),
        ("under=nan", "above 0 and up to 1"),
        ("tomek=0.5", "tomek has no ratio"),
    ],
)
def test_an_unknown_resampler_lists_the_known_ones(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        resampled(FAST, text)
    assert str(caught.value).startswith(f"--resample {text}: ")


def test_none_leaves_the_kind_alone() -> None:
    assert resampled(FAST, None) is FAST
    assert resampled(FAST, "none") is FAST


@pytest.mark.parametrize("name", ["under", "smote", "smote-enn", "balanced-bagging"])
def test_a_ratio_that_is_already_reached_is_refused(name: str) -> None:
    with fails(Code.RESAMPLING_IMPOSSIBLE, rf"^--resample {name}=0.05: .* 0.0526"):
        resampler(f"{name}=0.05").fit(FAST, rows(), 0)


def test_too_few_frauds_for_synthetic_ones_are_one_line() -> None:
    options = rows(200)
    one = replace(options, labels=(np.arange(200) == 3).astype(np.int8))
    with fails(Code.RESAMPLING_IMPOSSIBLE, "^--resample smote=0.1: .* from 1 "):
        RESAMPLERS["smote"].resample(one, 0)


def test_members_of_an_ensemble_are_resampled_each() -> None:
    kind = resampled(model_kind("stacking:logistic+hist_gradient_boosting"), "under")
    assert set(kind.settings) >= {"logistic.resample", "hist_gradient_boosting.resample"}
    assert resamplers_of(kind) == (RESAMPLERS["under"],)
    model = kind.fit(rows(), 0)
    assert predict_scores(model, rows(seed=1).matrix).shape == (600,)


def test_a_kind_without_labels_is_not_resampled() -> None:
    with fails(
        Code.RESAMPLING_IMPOSSIBLE, "^--resample under=0.1: isolation_forest", kind=UsageError
    ):
        resampled(model_kind("isolation_forest"), "under")
    mixed = resampled(model_kind("average:isolation_forest+logistic"), "under")
    assert isinstance(mixed.parts["logistic"], Resampled)
    assert not isinstance(mixed.parts["isolation_forest"], Resampled)


@dataclass(frozen=True)
class Recorded(Resampler):
    """A spying kind whose rows are recorded."""

    name: ClassVar[str] = "recorded"
    effect: ClassVar[str] = "none"
    inner: Resampler = field(default_factory=lambda: RESAMPLERS["under"])
    given: list[set[int]] = field(default_factory=list, compare=False)

    def resample(self, rows: LabelledRows, seed: int) -> LabelledRows:
        self.given.append(set(rows.matrix[:, spying.ROW].astype(int)))
        return self.inner.resample(rows, seed)


@pytest.mark.parametrize("inner", ["under=0.5", "smote=0.5", "smote-enn=0.5"])
def test_training_resamples_no_row_that_it_chooses_by_or_reports_on(inner: str) -> None:
    table = hourly()
    labelled = examples(table)
    split = split_stratified(labelled.labels, 3)
    recorded = Recorded(resampler(inner))
    recipe = Recipe(Resampled(spying.Spy(), recorded), MostF1(), split="stratified", seed=3)
    spying.seen.clear()
    trained = train(labelled.transactions, SCHEMA, recipe)
    assert recorded.given == [set(split.train), set(split.refit)]
    held_out = set(split.held_out)
    predicted = [labelled.rows for labelled in spying.seen if labelled.doing == "predict"]
    # Those that choose and those reported on, each as they are and once a row.
    assert sorted(predicted[0]) == sorted(split.valid)
    assert any(sorted(rows) == sorted(held_out) for rows in predicted)
    assert trained.metrics.rows == len(held_out)
    assert trained.frauds == labelled.labels[split.refit].sum()


def test_a_corrected_model_is_explained_as_the_one_within() -> None:
    labelled = rows()
    model = resampler("under").fit(FAST, labelled, 0)
    features = FeatureSet(SCHEMA, order=("row", "telling", "misleading", "amount"))
    own, within = (explainer_of(m, features, Reference()) for m in (model, model.model))
    assert type(own) is type(within)
    block = labelled.matrix[:20]
    assert np.array_equal(own.contributions(block), within.contributions(block))

"""The contract of every kind of model in `KINDS`."""

from __future__ import annotations

import io
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np
import pytest
from scipy.special import logit
from sklearn.metrics import average_precision_score
from threadpoolctl import threadpool_limits

from beam_fraud.decisions.reasons.registry import explainer_of
from beam_fraud.errors import EXTRAS, FraudError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle, load_model, open_bundle, write_bundle
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds import KINDS, ModelKind
from beam_fraud.models.manifest import Manifest, Thresholds, packages_of
from beam_fraud.models.predict import check_classifier, predict_scores
from beam_fraud.models.reference import Reference, reference_of
from beam_fraud.schema.schema import FeatureColumn, Schema
from beam_fraud.transforms.infer import BundleModelHandler, score_blocks
from tests.one_thread import one_thread

SCHEMA = Schema(
    name="test",
    roles={"event_time": "t", "amount": "a"},
    features=(FeatureColumn("noise"), FeatureColumn("mcc", "categorical", "allow")),
    calendar=False,
)
FEATURES = FeatureSet(SCHEMA, {"mcc": ("a", "b", "c", "d")})
#: How far scores may be off that are summed in another order: not at all where trees are looked up.
TOLERANCE = {"logistic": 1e-12, "mlp": 1e-12, "keras": 1e-12}
#: Average precision that a kind reaches at least, where it is not 0.6; one row in ten is a fraud.
REACHES: dict[str, float] = {}
#: What makes a fit quick.
AT_MOST = {"trees": 20, "epochs": 20, "units": 64, "batch": 256}
#: The extra without which a kind can't be fitted, where its bundle scores without it.
ONLY_TO_FIT = {"keras": "keras"}


def small(kind: ModelKind) -> ModelKind:
    """Return a kind with few trees and epochs, also in its members."""
    changes: dict[str, Any] = {}
    for field in fields(kind):
        value = getattr(kind, field.name)
        if field.name in AT_MOST:
            changes[field.name] = min(value, AT_MOST[field.name])
        elif isinstance(value, tuple) and any(isinstance(part, ModelKind) for part in value):
            changes[field.name] = tuple(small(part) for part in value)
    return replace(kind, **changes)


def rows(n: int = 1500, seed: int = 0) -> LabelledRows:
    """Large amounts in category 2 are frauds; one value in twenty is absent."""
    random = np.random.default_rng(seed)
    noise, mcc = random.normal(size=n), random.integers(0, 4, size=n).astype(float)
    amount = random.lognormal(3, 1, size=n)
    labels = ((amount > 30) & (mcc == 2) & (random.random(n) < 0.9)).astype(np.int8)
    matrix = np.column_stack([noise, mcc, amount])
    matrix[random.random(matrix.shape) < 0.05] = np.nan
    return LabelledRows(matrix, labels, categorical=(1,))


LATER = rows(seed=1)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> ModelKind:
    return small(KINDS[request.param])


@pytest.fixture(scope="module")
def model(kind: ModelKind) -> Any:
    return kind.fit(rows(), seed=7)


@pytest.fixture(scope="module")
def bundle(kind: ModelKind, model: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    manifest = Manifest(
        name="test",
        kind=kind.name,
        created="2024-01-01T00:00:00+00:00",
        features=FEATURES.names,
        schema=SCHEMA.to_dict(),
        thresholds=Thresholds(0.5),
        categories=FEATURES.categories,
    )
    path = str(tmp_path_factory.mktemp("bundles") / kind.name)
    write_bundle(path, model, manifest, Reference(), "# test")
    return open_bundle(path)


def same(kind: ModelKind, one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.allclose(one, other, rtol=0, atol=TOLERANCE.get(kind.name, 0)))


def test_it_separates_frauds_from_genuine_rows(kind: ModelKind, model: Any) -> None:
    scores = predict_scores(model, LATER.matrix)
    assert scores.dtype == np.float64
    assert scores.shape == (1500,)
    assert scores.min() >= 0
    assert scores.max() <= 1
    # Who learns without labels can't know that frauds are of category 2.
    if kind.supervised:
        assert average_precision_score(LATER.labels, scores) > REACHES.get(kind.name, 0.6)


def test_a_seed_gives_one_model(kind: ModelKind, model: Any) -> None:
    again = predict_scores(kind.fit(rows(), seed=7), LATER.matrix)
    assert np.array_equal(again, predict_scores(model, LATER.matrix))


def test_fitting_does_not_change_the_rows(kind: ModelKind) -> None:
    labelled, stored = rows(500), rows(500)
    kind.fit(labelled, seed=0)
    assert np.array_equal(labelled.matrix, stored.matrix, equal_nan=True)
    assert np.array_equal(labelled.labels, stored.labels)


def test_a_model_keeps_nothing_of_each_training_row(model: Any) -> None:
    """It would grow with the rows, and could tell which were frauds."""
    shapes = list[tuple[int, ...]]()

    class Arrays(pickle.Pickler):
        def reducer_override(self, part: Any) -> Any:
            if isinstance(part, np.ndarray):
                shapes.append(part.shape)
            return NotImplemented

    Arrays(io.BytesIO()).dump(model)
    assert not [shape for shape in shapes if len(rows().labels) in shape]


def test_validation_scores_are_those_of_the_settings_it_chose(kind: ModelKind) -> None:
    chosen, scores = kind.validate(rows(), LATER, seed=0)
    assert scores.dtype == np.float64
    assert np.allclose(scores, predict_scores(chosen.fit(rows(), seed=0), LATER.matrix))


def test_scores_do_not_depend_on_how_rows_are_cut_into_blocks(kind: ModelKind, model: Any) -> None:
    whole = predict_scores(model, LATER.matrix)
    ends = np.cumsum([1, 1, 7, 300, 1000])
    parts = [predict_scores(model, block) for block in np.split(LATER.matrix, ends)]
    assert same(kind, whole, np.concatenate(parts))
    order = np.random.default_rng(0).permutation(len(whole))
    assert same(kind, whole[order], predict_scores(model, LATER.matrix[order]))
    assert predict_scores(model, np.empty((0, 3))).shape == (0,)


@pytest.mark.parametrize(
    "row", [[np.nan] * 3, [0.0, 4.0, 10.0], [1e9, 0.0, -1e9], [np.nan, 2.0, 50.0]]
)
def test_absent_unknown_and_extreme_values_have_a_score(model: Any, row: list[float]) -> None:
    assert np.isfinite(predict_scores(model, np.array([row]))).all()


@pytest.mark.parametrize("column", [0, 1])
def test_values_absent_only_when_scoring_or_throughout_have_a_score(
    kind: ModelKind, column: int
) -> None:
    complete = np.nan_to_num(rows(500).matrix)
    complete[:, column] = np.nan
    model = kind.fit(LabelledRows(complete, rows(500).labels, (1,)), seed=0)
    assert np.isfinite(predict_scores(model, np.full((1, 3), np.nan))).all()
    assert np.isfinite(predict_scores(model, np.zeros((1, 3)))).all()


def test_it_fits_without_categories(kind: ModelKind) -> None:
    labelled = rows(500)
    model = kind.fit(LabelledRows(labelled.matrix[:, [0, 2]], labelled.labels), seed=0)
    assert np.isfinite(predict_scores(model, LATER.matrix[:, [0, 2]])).all()


def test_a_bundle_gives_the_scores_of_the_fitted_model(
    kind: ModelKind, model: Any, bundle: Bundle
) -> None:
    loaded = load_model(bundle)
    check_classifier(loaded, 3)
    assert same(kind, predict_scores(loaded, LATER.matrix), predict_scores(model, LATER.matrix))


def test_the_pipeline_gives_the_scores_of_the_fitted_model(
    kind: ModelKind, model: Any, bundle: Bundle
) -> None:
    # What a worker does with what it is sent.
    handler: BundleModelHandler = pickle.loads(pickle.dumps(BundleModelHandler(bundle)))
    blocks = np.split(LATER.matrix, [1, 200, 900])
    predicted = [result.inference for result in handler.run_inference(blocks, handler.load_model())]
    assert [len(scores) for scores in predicted] == [1, 199, 700, 600]
    assert same(kind, np.concatenate(predicted), predict_scores(model, LATER.matrix))


def test_predictions_keep_one_core_busy(bundle: Bundle) -> None:
    block = np.tile(LATER.matrix, (100, 1))
    loaded = BundleModelHandler(bundle).load_model()

    def predict() -> tuple[float, float]:
        """Return processor seconds of all threads and of this thread."""
        with threadpool_limits(2):
            score_blocks(loaded, [block])
            everyone, alone = time.process_time(), time.thread_time()
            score_blocks(loaded, [block])
            return time.process_time() - everyone, time.thread_time() - alone

    # Runners predict in other threads than the one that opens the model.
    with ThreadPoolExecutor(1) as pool:
        everyone, alone = pool.submit(predict).result()
    parameters = loaded.get_params(deep=True)
    assert all(v in (None, 1) for k, v in parameters.items() if k.endswith("n_jobs"))
    # Threads that wait for work spin, and that is time of the process.
    assert everyone < 1.3 * alone + 0.01


def test_the_bundle_records_the_versions_of_its_packages(model: Any, bundle: Bundle) -> None:
    needed = packages_of(model)
    assert set(needed) == set(bundle.manifest.versions) & EXTRAS.keys()
    assert all(bundle.manifest.versions[name][0].isdigit() for name in needed)


class Absent:
    """An import system without optional packages."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name.split(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


@pytest.fixture
def _without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.split(".")[0] in EXTRAS:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])


@pytest.mark.usefixtures("_without_extras")
def test_an_absent_extra_is_one_line_that_names_it(kind: ModelKind, bundle: Bundle) -> None:
    opened_with = set(bundle.manifest.versions) & EXTRAS.keys()
    fitted = failure(lambda: kind.fit(rows(500), seed=0))
    if fitted is not None:
        assert "\n" not in fitted
        assert fitted.startswith("--model ")
        assert fitted.endswith(tuple(f"pip install 'beam-fraud[{e}]'" for e in EXTRAS.values()))
    # What was fitted with one may do without it, but not the other way round.
    assert fitted is not None or not opened_with
    opened = failure(lambda: predict_scores(load_model(bundle), LATER.matrix))
    assert (opened is not None) == bool(opened_with)
    if opened is not None:
        assert "\n" not in opened
        assert opened.startswith(f"{bundle.path}: model.joblib")
        assert opened.endswith(f"pip install 'beam-fraud[{EXTRAS[min(opened_with)]}]'")


def failure(what: Callable[[], object]) -> str | None:
    """Return the message to the user, or None on success."""
    try:
        what()
    except FraudError as error:
        return str(error)
    return None


def test_tuning_searches_existing_settings(kind: ModelKind) -> None:
    assert set(kind.space) <= {field.name for field in fields(kind)}
    for name, where in kind.space.items():
        default = getattr(KINDS[kind.name], name)
        if hasattr(where, "values"):
            assert default in where.values
        else:
            assert where.low <= default <= where.high, name
            assert not where.log or where.low > 0


def test_reasons_name_the_features_of_a_fraud(kind: ModelKind, model: Any) -> None:
    scores = predict_scores(model, LATER.matrix)
    explainer = explainer_of(model, FEATURES, reference_of(rows().matrix, FEATURES, scores))
    frauds = (LATER.labels == 1) & np.isfinite(LATER.matrix).all(axis=1)
    result = explainer.contributions(LATER.matrix[frauds])
    assert result.shape == (int(frauds.sum()), 3)
    if not kind.supervised:
        return
    # The category and the amount, more than noise.
    assert np.median(result[:, 1]) > 0
    assert np.median(result[:, 1]) > np.median(np.abs(result[:, 0]))
    if explainer.unit == "log-odds" and not explainer.approximate:
        rest = logit(scores[frauds]) - result.sum(axis=1)
        assert np.ptp(rest) < 1e-4

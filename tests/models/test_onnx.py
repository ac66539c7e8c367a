"""ONNX files give the same scores, or are refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from beam_fraud.cli.commands import export_model
from beam_fraud.cli.options import ExportModelOptions
from beam_fraud.errors import Code, FraudError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle, write_bundle
from beam_fraud.models.calibration import Calibrated, Isotonic, Platt
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds import ModelKind, model_kind
from beam_fraud.models.kinds.base import scaled_columns
from beam_fraud.models.manifest import Manifest, Thresholds
from beam_fraud.models.network.classifier import KerasClassifier
from beam_fraud.models.network.fitting import DenseNetwork
from beam_fraud.models.onnx import export
from beam_fraud.models.onnx.export import export_onnx, probe_rows
from beam_fraud.models.onnx.graph import onnx_graph
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.reference import Reference, reference_of
from beam_fraud.models.resampling.under import PriorCorrected
from beam_fraud.schema.schema import FeatureColumn, Schema
from tests.failing import fails

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SCHEMA = Schema(
    name="test",
    roles={"event_time": "t", "amount": "a"},
    features=(FeatureColumn("noise"), FeatureColumn("mcc", "categorical", "allow")),
    calendar=False,
)
FEATURES = FeatureSet(SCHEMA, {"mcc": tuple("abcdef")})
KINDS = ["logistic", "mlp", "forest", "extra_trees", "hist_gradient_boosting"]
KINDS += ["xgboost", "lightgbm", "average:forest+xgboost", "stacking:logistic+lightgbm"]


class Strange(ClassifierMixin, BaseEstimator):
    """A model of an unknown class."""

    def fit(self, matrix: np.ndarray, labels: np.ndarray) -> Strange:
        self.classes_ = np.unique(labels)
        return self

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        return np.full((len(matrix), 2), 0.5)


def rows(n: int = 800, seed: int = 0) -> LabelledRows:
    """Large amounts in category 2 are frauds; one value in twenty is absent, a category is rare."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=n)
    mcc = random.choice(5, size=n, p=[0.3, 0.3, 0.3, 0.099, 0.001]).astype(float)
    amount = random.lognormal(3, 1, size=n)
    labels = ((amount > 30) & (mcc == 2) & (random.random(n) < 0.9)).astype(np.int8)
    matrix = np.column_stack([noise, mcc, amount])
    matrix[random.random(matrix.shape) < 0.05] = np.nan
    return LabelledRows(matrix, labels, categorical=(1,))


TRAIN, LATER = rows(), rows(seed=1)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def small(name: str) -> ModelKind:
    """Return a kind with few trees and epochs, also in its members."""
    kind = model_kind(name)
    few = {"trees": 8, "epochs": 8}
    ends = {key: key.split(".")[-1] for key in kind.settings}
    settings = [f"{key}={few[end]}" for key, end in ends.items() if end in few]
    return model_kind(name, settings)


def bundle_of(model: Any, directory: Path, *, known: bool = True) -> Bundle:
    """Return a bundle of a model with the three features, or of an imported model."""
    manifest = Manifest(
        name="test",
        kind="test",
        created="2024-01-01T00:00:00+00:00",
        features=FEATURES.names,
        schema=SCHEMA.to_dict(),
        thresholds=Thresholds(0.4, 0.9),
        categories=FEATURES.categories,
    )
    reference = Reference()
    if known:
        scores = predict_scores(model, LATER.matrix)
        reference = reference_of(TRAIN.matrix, FEATURES, scores)
    return write_bundle(str(directory / "bundle"), model, manifest, reference, "# test")


def scores_of(path: Path, matrix: np.ndarray) -> np.ndarray:
    """Return the scores of onnxruntime."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (scores,) = session.run(["score"], {"features": matrix})
    return np.asarray(scores)


@pytest.mark.parametrize("name", KINDS)
def test_an_exported_model_gives_its_scores(name: str, tmp_path: Path) -> None:
    model = small(name).fit(TRAIN, seed=0)
    exported = export_onnx(bundle_of(model, tmp_path), str(tmp_path / "model.onnx"))
    # XGBoost computes in single precision, all others in double.
    assert exported.largest_difference < (1e-6 if "xgboost" in name else 1e-12)
    assert exported.rows_compared > 4000
    scores = scores_of(tmp_path / "model.onnx", LATER.matrix)
    assert scores.shape == (800,)
    assert scores.dtype == np.float64
    assert np.allclose(scores, predict_scores(model, LATER.matrix), rtol=0, atol=1e-6)
    assert scores_of(tmp_path / "model.onnx", LATER.matrix[:1])[0] == pytest.approx(scores[0])


def test_a_file_has_the_metadata_of_the_model(tmp_path: Path) -> None:
    bundle = bundle_of(small("forest").fit(TRAIN, seed=0), tmp_path)
    result = export_model.run(
        ExportModelOptions(model=bundle.path, onnx=str(tmp_path / "model.onnx"))
    )
    json.dumps(result)
    assert bundle.model_id in export_model.render(result)
    properties = {p.key: p.value for p in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert properties["model_id"] == bundle.model_id
    assert json.loads(properties["features"]) == ["noise", "mcc", "amount"]
    assert json.loads(properties["categories"]) == {"mcc": list("abcdef")}
    assert float(properties["threshold_review"]) == 0.4
    assert float(properties["threshold_decline"]) == 0.9


def test_a_network_of_keras_is_exported_by_its_matrices(tmp_path: Path) -> None:
    columns = scaled_columns(TRAIN, max_categories=3).fit(TRAIN.matrix)
    random, sizes = np.random.default_rng(0), (columns.transform(TRAIN.matrix).shape[1], 8, 8, 1)
    network = KerasClassifier()
    network.classes_ = np.array([0, 1])
    network.n_features_in_ = sizes[0]
    network.network_ = DenseNetwork(
        tuple(random.normal(size=shape) for shape in pairwise(sizes)),
        tuple(random.normal(size=size) for size in sizes[1:]),
    )
    bundle = bundle_of(make_pipeline(columns, network), tmp_path)
    assert export_onnx(bundle, str(tmp_path / "model.onnx")).largest_difference < 1e-12


def test_calibrated_and_corrected_scores_are_exported(tmp_path: Path) -> None:
    forest = small("forest").fit(TRAIN, seed=0)
    model = Calibrated(PriorCorrected(forest, 0.2), Platt(1.7, -2.0))
    exported = export_onnx(bundle_of(model, tmp_path), str(tmp_path / "model.onnx"))
    assert exported.largest_difference < 1e-12


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(SimpleImputer(), HistGradientBoostingClassifier(max_iter=5)),
        make_pipeline(
            SimpleImputer(strategy="most_frequent"),
            OneHotEncoder(handle_unknown="ignore", min_frequency=30),
            LogisticRegression(),
        ),
        DecisionTreeClassifier(max_depth=1),
        HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=500),
    ],
    ids=["boosting", "sparse", "tree", "leaves"],
)
def test_imported_models_are_exported(model: Any, tmp_path: Path) -> None:
    # Of an imported model no distributions are known.
    bundle = bundle_of(model.fit(TRAIN.matrix, TRAIN.labels), tmp_path, known=False)
    path = tmp_path / "model.onnx"
    assert export_onnx(bundle, str(path)).largest_difference < 1e-12
    scores = predict_scores(model, LATER.matrix)
    assert np.allclose(scores_of(path, LATER.matrix), scores, rtol=0, atol=1e-12)


def test_trees_that_differ_at_their_thresholds_are_refused(tmp_path: Path) -> None:
    # skl2onnx converts these itself, in single precision; most rows would show nothing.
    model = make_pipeline(SimpleImputer(), GradientBoostingClassifier(n_estimators=20))
    bundle = bundle_of(model.fit(TRAIN.matrix, TRAIN.labels), tmp_path, known=False)
    with fails(Code.ONNX_IMPOSSIBLE, "6,001 sample rows"):
        export_onnx(bundle, str(tmp_path / "model.onnx"))


def test_a_model_that_takes_no_absent_values_is_compared_without(tmp_path: Path) -> None:
    matrix = np.nan_to_num(TRAIN.matrix)
    model = LogisticRegression(max_iter=1000).fit(matrix, TRAIN.labels)
    exported = export_onnx(bundle_of(model, tmp_path, known=False), str(tmp_path / "model.onnx"))
    assert exported.rows_compared > 2000
    assert exported.largest_difference < 1e-12


@pytest.mark.parametrize("name", ["rank_average:forest+logistic", "isolation_forest"])
def test_ranks_have_no_counterpart(name: str, tmp_path: Path) -> None:
    bundle = bundle_of(small(name).fit(TRAIN, seed=0), tmp_path)
    with fails(Code.ONNX_IMPOSSIBLE, "ranks"):
        export_onnx(bundle, str(tmp_path / "model.onnx"))


def test_a_model_that_no_converter_knows_is_refused_in_one_line(tmp_path: Path) -> None:
    bundle = bundle_of(Strange().fit(TRAIN.matrix, TRAIN.labels), tmp_path)
    with fails(Code.ONNX_IMPOSSIBLE, "Strange") as caught:
        export_onnx(bundle, str(tmp_path / "model.onnx"))
    assert "\n" not in str(caught.value)


def test_steps_have_no_counterpart(tmp_path: Path) -> None:
    steps = Isotonic(np.array([0.0, 1.0]), np.array([0.1, 0.5]))
    model = Calibrated(small("logistic").fit(TRAIN, seed=0), steps)
    with fails(Code.ONNX_IMPOSSIBLE, "calibrated"):
        export_onnx(bundle_of(model, tmp_path), str(tmp_path / "model.onnx"))


def test_a_file_whose_scores_differ_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = onnx_graph(small("forest").fit(rows(seed=2), seed=1), 3)
    monkeypatch.setattr(export, "onnx_graph", lambda model, features: other)
    bundle = bundle_of(small("forest").fit(TRAIN, seed=0), tmp_path)
    (tmp_path / "model.onnx").write_text("an earlier one")
    with fails(Code.ONNX_IMPOSSIBLE, "6,001") as caught:
        export_onnx(bundle, str(tmp_path / "model.onnx"))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "model.onnx").read_text() == "an earlier one"
    assert [p.name for p in tmp_path.iterdir() if "unfinished" in p.name] == []


def test_a_file_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path) -> None:
    bundle = bundle_of(small("logistic").fit(TRAIN, seed=0), tmp_path)
    with fails(Code.OUTPUT_UNWRITABLE, "--onnx .*/nowhere/model.onnx: "):
        export_onnx(bundle, str(tmp_path / "nowhere" / "model.onnx"))


def test_probes_lie_on_thresholds_and_have_gaps() -> None:
    model = small("hist_gradient_boosting").fit(TRAIN, seed=0)
    thresholds = {
        float(node["num_threshold"])
        for (tree,) in model._predictors
        for node in tree.nodes
        if not node["is_leaf"] and not node["is_categorical"]
    }
    reference = reference_of(TRAIN.matrix, FEATURES, predict_scores(model, LATER.matrix))
    probes = probe_rows(reference, 3, onnx_graph(model, 3))
    result = set(probes[:, [0, 2]].ravel().tolist())
    assert len(thresholds & result) > len(thresholds) * 0.9
    beside = {float(np.nextafter(t, np.inf)) for t in thresholds}
    assert len(beside & result) > len(thresholds) * 0.5
    assert np.isnan(probes).any(axis=0).all()
    codes = probes[:, 1]
    # Codes of categories, then the one of unknown categories.
    assert set(codes[~np.isnan(codes)]) == set(range(7))


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "skl2onnx"])
def test_an_absent_extra_is_one_line_that_names_it(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundle_of(small("logistic").fit(TRAIN, seed=0), tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        FraudError, match=rf"--onnx: needs {package}; .* -m pip install 'beam-fraud\[onnx"
    ):
        export_onnx(bundle, str(tmp_path / "model.onnx"))

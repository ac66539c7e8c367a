"""MLflow: exported bundles come back the same and score the same; models of others come in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from beam_fraud.cli.commands import export_model, import_model
from beam_fraud.cli.options import ExportModelOptions, ImportModelOptions
from beam_fraud.errors import Code
from beam_fraud.features.matrix import code_categories
from beam_fraud.models.bundle import Bundle, load_model, open_bundle, write_bundle
from beam_fraud.models.manifest import Manifest, Thresholds, schema_fields
from beam_fraud.models.mlflow.pyfunc import BundleScorer
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.reference import Reference
from beam_fraud.models.registry.registry import Author, add_model, open_registry, promote
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import load_schema
from beam_fraud.storage.urls import Place
from tests.failing import fails

SCHEMA = """name = "bank"
calendar = false
[roles]
transaction_id = "id"
event_time = "t"
amount = "value"
[[feature]]
column = "hour"
[[feature]]
column = "merchant group"
kind = "categorical"
missing = "allow"
"""
GROUPS = ("bar", "fuel", "shop")
RANDOM = np.random.default_rng(0)
ROWS = 500
FRAME = pd.DataFrame(
    {
        "hour": RANDOM.integers(0, 24, ROWS).astype(float),
        "merchant group": RANDOM.choice([*GROUPS, "unseen", None], ROWS),
        "amount": RANDOM.gamma(2, 40, ROWS),
    }
)
LABELS = ((FRAME["amount"] > 120) & (FRAME["hour"] < 8)).astype(int).to_numpy()


@pytest.fixture(scope="module", autouse=True)
def mlflow() -> Iterator[Any]:
    """Return MLflow's module, which sends nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow.pyfunc

        yield mlflow


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("schema") / "bank.toml"
    path.write_text(SCHEMA)
    return path


@pytest.fixture(scope="module")
def bundle(schema: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of boosted trees with a categorical feature."""
    model = HistGradientBoostingClassifier(max_iter=20, categorical_features=[1], random_state=0)
    model.fit(matrix(FRAME), LABELS)
    return written(tmp_path_factory.mktemp("bundle") / "trees", model, load_schema(str(schema)))


def written(directory: Path, model: Any, schema: Schema, threshold: float = 0.5) -> Bundle:
    manifest = Manifest(
        name="trees",
        kind="hist_gradient_boosting",
        created="2024-01-01T00:00:00+00:00",
        features=tuple(FRAME.columns),
        **schema_fields(schema),
        thresholds=Thresholds(threshold),
        categories={"merchant group": GROUPS},
        settings={"trees": 20},
        metrics={"rows_of": "held_out", "average_precision": 0.75, "rows": 500},
    )
    return write_bundle(directory, model, manifest, Reference(), "# card")


def matrix(frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    group = pa.array(frame["merchant group"], pa.string(), from_pandas=True)
    codes = code_categories(group, GROUPS)
    return np.column_stack([frame["hour"], codes, frame["amount"]])


def contents(directory: str | Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


@pytest.fixture(scope="module")
def export(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle as an MLflow model in a directory."""
    to = tmp_path_factory.mktemp("export") / "out"
    export_model.run(ExportModelOptions(model=bundle.path, mlflow=str(to)))
    return to


def imported(source: Path | str, out: Path, **options: Any) -> dict[str, Any]:
    return import_model.run(ImportModelOptions(file=str(source), out=str(out), **options))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tracking store in an SQLite file, which is also the model registry."""
    # Artifacts of the default experiment are below the working directory.
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def test_an_export_scores_as_the_bundle_in_every_bit(
    bundle: Bundle, export: Path, mlflow: Any
) -> None:
    model = mlflow.pyfunc.load_model(str(export))
    expected = predict_scores(load_model(bundle), matrix(FRAME))
    assert len(np.unique(expected)) > 40
    assert model.predict(FRAME).tobytes() == expected.tobytes()
    shuffled = FRAME[["amount", "merchant group", "hour"]].assign(id="x")
    assert model.predict(shuffled).tobytes() == expected.tobytes()
    few = [model.predict(FRAME[i : i + 1])[0] for i in range(20)]
    assert few == expected[:20].tolist()


def test_an_export_describes_the_model(bundle: Bundle, export: Path, mlflow: Any) -> None:
    model = mlflow.pyfunc.load_model(str(export))
    columns = [(one.name, one.type.name) for one in model.metadata.get_input_schema()]
    assert columns == [("hour", "double"), ("merchant group", "string"), ("amount", "double")]
    assert model.metadata.metadata["model_id"] == bundle.model_id
    example = model.input_example
    assert list(example.columns) == list(FRAME.columns)
    assert model.predict(example).shape == (1,)
    requirements = (export / "requirements.txt").read_text().split()
    versions = bundle.manifest.versions
    assert {f"{name}=={versions[name]}" for name in ("beam-fraud", "scikit-learn", "numpy")} <= {
        *requirements
    }


def test_rows_that_the_model_cannot_take_are_refused(bundle: Bundle) -> None:
    scorer = BundleScorer(bundle)
    with fails(Code.COLUMN_MISSING, "hour"):
        scorer.predict(FRAME.drop(columns="hour"))
    with fails(Code.COLUMN_TYPE, "hour"):
        scorer.predict(FRAME.assign(hour="noon"))
    with fails(Code.COLUMN_TYPE, "merchant group"):
        scorer.predict(FRAME.assign(**{"merchant group": 5411.0}))
    assert scorer.predict(FRAME[:0]).shape == (0,)


def test_an_export_imported_again_is_the_same_bundle(
    bundle: Bundle, export: Path, tmp_path: Path
) -> None:
    result = imported(export, tmp_path / "back", trust=True)
    assert result["model_id"] == bundle.model_id
    assert contents(tmp_path / "back") == contents(bundle.path)


def test_an_export_needs_trust_and_takes_no_option_of_its_own(
    bundle: Bundle, export: Path, tmp_path: Path
) -> None:
    with fails(Code.CONSENT_MISSING, bundle.model_id):
        imported(export, tmp_path / "back")
    with fails(Code.OPTION_CONFLICT, "--name"):
        imported(export, tmp_path / "back", trust=True, name="mine")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("name", ["model.joblib", "manifest.json", "card.md"])
def test_a_changed_export_is_refused(name: str, export: Path, tmp_path: Path, mlflow: Any) -> None:
    shutil.copytree(export, tmp_path / "out")
    (file,) = (tmp_path / "out").rglob(name)
    # Such a file can be read: only its digest tells.
    file.write_bytes(file.read_bytes().replace(b"trees", b"treex", 1) + b"\n")
    with fails(Code.BUNDLE_DAMAGED, name):
        imported(tmp_path / "out", tmp_path / "back", trust=True)
    with fails(Code.BUNDLE_DAMAGED, name):
        mlflow.pyfunc.load_model(str(tmp_path / "out"))


def test_a_store_gets_version_alias_figures_and_tags(
    bundle: Bundle, schema: Path, store: str, tmp_path: Path, mlflow: Any
) -> None:
    place = Place.at(tmp_path / "registry")
    other = written(
        tmp_path / "other", load_model(bundle), load_schema(str(schema)), threshold=0.25
    )
    for one in (bundle, other):
        add_model(place, one, Author("ann"))
    promote(open_registry(place), bundle.model_id, Author("ann", "finds more"))
    results = [
        export_model.run(
            ExportModelOptions(model=one.model_id, registry=place.name, mlflow=store, name="fraud")
        )
        for one in (bundle, other)
    ]
    assert [(one["version"], one["alias"]) for one in results] == [
        ("1", "champion"),
        ("2", "challenger"),
    ]
    client = mlflow.MlflowClient(store)
    run = client.get_run(results[0]["run_id"])
    assert run.data.metrics["average_precision"] == 0.75
    assert run.data.params["trees"] == "20"
    version = client.get_model_version_by_alias("fraud", "champion")
    assert version.version == 1
    assert version.tags["model_id"] == bundle.model_id
    assert version.tags["why"] == "finds more"
    sources = {
        "models:/fraud/1": bundle,
        "models:/fraud@challenger": other,
        f"runs:/{results[0]['run_id']}/model": bundle,
    }
    for number, (source, expected) in enumerate(sources.items()):
        result = imported(source, tmp_path / f"back{number}", trust=True)
        assert result["model_id"] == expected.model_id
        assert contents(tmp_path / f"back{number}") == contents(expected.path)
    with fails(Code.MLFLOW_FAILED, "models:/fraud/9"):
        imported("models:/fraud/9", tmp_path / "none", trust=True)


def sklearn_model(mlflow: Any, path: Path, **options: Any) -> Any:
    """Save a forest of arrays, whose columns only the signature names."""
    from mlflow import sklearn
    from mlflow.models import infer_signature

    # The names of the schema's amount, and an order of its own.
    rows = NUMBERS.rename(columns={"amount": "value"})[["value", "hour"]]
    forest = RandomForestClassifier(20, random_state=0).fit(rows.to_numpy(), LABELS)
    sklearn.save_model(
        forest, str(path), signature=infer_signature(rows), pip_requirements=[], **options
    )
    return forest.predict_proba(rows.to_numpy())[:, 1]


NUMBERS = FRAME[["hour", "amount"]]


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A schema without categories."""
    path = tmp_path_factory.mktemp("schema") / "numbers.toml"
    path.write_text(SCHEMA.partition('[[feature]]\ncolumn = "merchant')[0])
    return str(path)


def scores(out: Path) -> npt.NDArray[np.float64]:
    """Score the rows by an imported model, whatever the order of its features."""
    bundle = open_bundle(out)
    rows = NUMBERS[list(bundle.features.names)].to_numpy()
    return predict_scores(load_model(bundle), rows)


def test_the_signature_names_the_features_of_a_model_without_names(
    numbers: str, tmp_path: Path, mlflow: Any
) -> None:
    expected = sklearn_model(mlflow, tmp_path / "model", serialization_format="cloudpickle")
    with fails(Code.CONSENT_MISSING, "sha256"):
        imported(tmp_path / "model", tmp_path / "out", schema=numbers)
    result = imported(tmp_path / "model", tmp_path / "out", schema=numbers, trust=True)
    assert result["features"] == ["amount", "hour"]
    assert result["names"] == ["value", "hour"]
    assert scores(tmp_path / "out").tobytes() == expected.tobytes()


def test_a_signature_of_other_columns_is_refused(numbers: str, tmp_path: Path, mlflow: Any) -> None:
    sklearn_model(mlflow, tmp_path / "model", serialization_format="cloudpickle")
    described = tmp_path / "model" / "MLmodel"
    text = described.read_text()
    with fails(Code.OPTION_MISSING, "--schema"):
        imported(tmp_path / "model", tmp_path / "out", trust=True)
    described.write_text(text.replace('"name": "value"', '"name": "price"'))
    with fails(Code.MODEL_UNSUITED, "'price'"):
        imported(tmp_path / "model", tmp_path / "out", schema=numbers, trust=True)
    described.write_text(text.replace("model.pkl", "../model.pkl"))
    with fails(Code.INPUT_FORMAT, "../model.pkl"):
        imported(tmp_path / "model", tmp_path / "out", schema=numbers, trust=True)
    described.write_text("no: flavours")
    with fails(Code.INPUT_FORMAT, "MLmodel"):
        imported(tmp_path / "model", tmp_path / "out", schema=numbers, trust=True)
    described.unlink()
    with fails(Code.INPUT_FORMAT, "MLmodel"):
        imported(tmp_path / "model", tmp_path / "out", schema=numbers, trust=True)


def test_models_of_libraries_need_no_trust(numbers: str, tmp_path: Path, mlflow: Any) -> None:
    lightgbm, xgboost = pytest.importorskip("lightgbm"), pytest.importorskip("xgboost")
    from mlflow import lightgbm as of_lightgbm
    from mlflow import sklearn as of_sklearn
    from mlflow import xgboost as of_xgboost

    linear = LogisticRegression().fit(NUMBERS, LABELS)
    of_sklearn.save_model(
        linear, str(tmp_path / "linear"), serialization_format="skops", pip_requirements=[]
    )
    boosted = xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(NUMBERS, LABELS)
    of_xgboost.save_model(boosted, str(tmp_path / "boosted"), pip_requirements=[])
    binary = {"objective": "binary", "verbose": -1}
    light = lightgbm.train(binary, lightgbm.Dataset(NUMBERS, LABELS), 5)
    of_lightgbm.save_model(light, str(tmp_path / "light"), pip_requirements=[])
    expected = {
        "linear": linear.predict_proba(NUMBERS)[:, 1],
        "boosted": boosted.predict_proba(NUMBERS)[:, 1].astype(np.float64),
        "light": light.predict(NUMBERS),
    }
    for name, values in expected.items():
        imported(tmp_path / name, tmp_path / f"{name}-out", schema=numbers)
        np.testing.assert_allclose(scores(tmp_path / f"{name}-out"), values, rtol=0, atol=1e-12)


def test_a_call_that_cannot_work_names_the_mistake(
    bundle: Bundle, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**options: Any) -> None:
        export_model.run(ExportModelOptions(model=bundle.path, **options))

    with fails(Code.OPTION_MISSING, "--mlflow"):
        run()
    with fails(Code.OPTION_CONFLICT, "--name"):
        run(mlflow=str(tmp_path / "out"), name="fraud")
    with fails(Code.OPTION_CONFLICT, "--name"):
        run(onnx=str(tmp_path / "m.onnx"), name="fraud")
    with fails(Code.URL_UNUSABLE, "gs://bucket"):
        run(mlflow="gs://bucket/model")
    with fails(Code.OUTPUT_OCCUPIED, str(tmp_path)):
        (tmp_path / "mine").touch()
        run(mlflow=str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with fails(Code.VARIABLE_UNSET, "MLFLOW_TRACKING_URI"):
        imported("models:/fraud/1", tmp_path / "back")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:hunter2@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with fails(Code.MLFLOW_FAILED, "models:/fraud/1") as failure:
        imported("models:/fraud/1", tmp_path / "back")
    assert "hunter2" not in str(failure.value)

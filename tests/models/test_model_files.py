"""Models as people have them: each gives its own scores, or is refused with what to do."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.svm import LinearSVC

import beam_fraud
from beam_fraud.cli import main
from beam_fraud.cli.commands import import_model, score
from beam_fraud.cli.options import ImportModelOptions, ScoreOptions
from beam_fraud.decisions.reasons.registry import LightGBMExplainer, explainer_of
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.dataset import load_dataset
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.bundle import load_model, open_bundle, read_reference
from beam_fraud.models.predict import predict_scores
from beam_fraud.storage.urls import Place
from tests.failing import fails

xgboost = pytest.importorskip("xgboost")
lightgbm = pytest.importorskip("lightgbm")
catboost = pytest.importorskip("catboost")
skops = pytest.importorskip("skops.io")
pytest.importorskip("onnxruntime")
skl2onnx = pytest.importorskip("skl2onnx")

SCHEMA = """name = "bank"
calendar = false
[roles]
transaction_id = "id"
event_time = "t"
amount = "value"
label = "fraud"
[[feature]]
column = "hour"
[[feature]]
column = "dist"
missing = "allow"
"""
CATEGORY = """[[feature]]
column = "mcc"
kind = "categorical"
"""
RANDOM = np.random.default_rng(0)
ROWS = 400
FRAME = pd.DataFrame(
    {
        "id": [f"id{i:04}" for i in range(ROWS)],
        "t": pd.date_range("2024-01-01", periods=ROWS, freq="h", tz="UTC"),
        "value": RANDOM.lognormal(3, 1, size=ROWS).round(2),
        "hour": RANDOM.integers(0, 24, size=ROWS),
        "dist": RANDOM.normal(5, 2, size=ROWS).round(2),
        "mcc": RANDOM.choice(["5411", "5999", "nine"], size=ROWS),
    }
)
Y = ((FRAME["value"] > 25) & (FRAME["mcc"] == "5999")).to_numpy().astype(int)
FRAME["fraud"] = Y
#: Rows that the model has not seen, one with a new category.
TODAY = FRAME.iloc[:80].assign(value=FRAME["value"] * 1.1)
NUMBERS, OTHER = ["hour", "dist", "value"], ["value", "dist", "hour"]
MIXED = ["hour", "mcc", "value"]
CATEGORIES = FRAME.assign(mcc=FRAME["mcc"].astype("category"))
TODAY_CATEGORIES = TODAY.assign(
    mcc=pd.Categorical(TODAY["mcc"], categories=CATEGORIES["mcc"].cat.categories)
)

Scores = Callable[[], Any]


class Bank:
    """A directory with transactions, schemas and model files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "bank.toml").write_text(SCHEMA)
        (directory / "mixed.toml").write_text(SCHEMA.replace('"bank"', '"mixed"') + CATEGORY)
        for name, frame in (("history", FRAME), ("today", TODAY)):
            pq.write_table(pa.Table.from_pandas(frame), directory / f"{name}.parquet")

    def path(self, name: str) -> Path:
        return self.directory / name

    def options(self, file: str, **more: Any) -> ImportModelOptions:
        return ImportModelOptions(
            file=str(self.path(file)),
            schema=str(self.path(more.pop("schema", "bank.toml"))),
            out=str(self.path("bundle")),
            **more,
        )

    def dumped(self, model: Any, **more: Any) -> dict[str, Any]:
        """Import a model by joblib."""
        joblib.dump(model, self.path("m.joblib"))
        return import_model.run(self.options("m.joblib", trust=True, **more))

    def native(self, file: str, **more: Any) -> dict[str, Any]:
        """Import a file that needs no trust."""
        return import_model.run(self.options(file, **more))

    def scores(self) -> Any:
        """Return the bundle's scores of today's rows, in their order."""
        bundle = open_bundle(str(self.path("bundle")))
        rows = load_dataset(Place.parse_all([str(self.path("today.parquet"))]), bundle.schema)
        return predict_scores(
            load_model(bundle), feature_matrix(rows.transactions, bundle.features)
        )


@pytest.fixture
def bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bank:
    # The cost of a prediction is not what is tested here.
    monkeypatch.setattr("beam_fraud.models.importing.TIMED_ROWS", 200)
    return Bank(tmp_path)


def forest(columns: list[str], labels: Any = Y) -> Any:
    return RandomForestClassifier(5, random_state=0).fit(FRAME[columns], labels)


def regression(columns: list[str], labels: Any = Y) -> Any:
    steps = (SimpleImputer(), StandardScaler(), LogisticRegression())
    return make_pipeline(*steps).fit(FRAME[columns], labels)


def mixed(encoder: Any, frame: pd.DataFrame = FRAME, columns: list[str] = MIXED) -> Any:
    parts = [("c", encoder, ["mcc"]), ("n", StandardScaler(), ["hour", "value"])]
    return make_pipeline(ColumnTransformer(parts), forest_of(5)).fit(frame[columns], Y)


def forest_of(trees: int) -> Any:
    return RandomForestClassifier(trees, random_state=0)


def mapped(decision: Any) -> Any:
    return (1 + decision / (1 + np.abs(decision))) / 2


ONE_HOT = OneHotEncoder(handle_unknown="ignore")
ORDINAL = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
REST = [name for name in FRAME if name != "fraud"]
WHOLE = FRAME.assign(mcc=FRAME["mcc"].replace("nine", "9").astype(int))


@pytest.mark.parametrize(
    ("model", "columns", "schema"),
    [
        (forest(NUMBERS), NUMBERS, "bank.toml"),
        (forest(OTHER), OTHER, "bank.toml"),
        (regression(OTHER), OTHER, "bank.toml"),
        (forest(NUMBERS, Y == 1), NUMBERS, "bank.toml"),
        (forest(NUMBERS, Y.astype(float)), NUMBERS, "bank.toml"),
        (CalibratedClassifierCV(forest_of(3), cv=2).fit(FRAME[OTHER], Y), OTHER, "bank.toml"),
        (
            GridSearchCV(forest_of(3), {"max_depth": [2, 3]}, cv=2).fit(FRAME[OTHER], Y),
            OTHER,
            "bank.toml",
        ),
        (mixed(ONE_HOT), MIXED, "mixed.toml"),
        (mixed(ORDINAL), MIXED, "mixed.toml"),
        (mixed(make_pipeline(FunctionTransformer(), ONE_HOT)), MIXED, "mixed.toml"),
        # A ColumnTransformer drops what no part of it takes, such as ids.
        (mixed(ONE_HOT, columns=REST), REST, "mixed.toml"),
        (
            VotingClassifier([("a", mixed(ONE_HOT)), ("b", mixed(ORDINAL))], voting="soft").fit(
                FRAME[MIXED], Y
            ),
            MIXED,
            "mixed.toml",
        ),
        (xgboost.XGBClassifier(n_estimators=5).fit(FRAME[OTHER], Y), OTHER, "bank.toml"),
        (
            lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(FRAME[OTHER], Y),
            OTHER,
            "bank.toml",
        ),
    ],
)
def test_a_model_with_names_gives_its_own_scores(
    bank: Bank, model: Any, columns: list[str], schema: str
) -> None:
    result = bank.dumped(model, schema=schema)
    own = model.predict_proba(TODAY[columns])[:, 1]
    np.testing.assert_allclose(bank.scores(), own, rtol=0, atol=1e-12)
    if "LogisticRegression" not in str(model):
        assert np.array_equal(bank.scores(), own)
    text = import_model.render(result)
    assert "fraud is" in text
    assert ", ".join(str(name) for name in result["features"][:2]) in text.replace(" (value)", "")


def test_whole_numbers_are_categories_of_whole_numbers(bank: Bank) -> None:
    model = mixed(ONE_HOT, WHOLE.assign(mcc=WHOLE["mcc"]))
    rows = TODAY.assign(mcc=TODAY["mcc"].replace("nine", "9"))
    pq.write_table(pa.Table.from_pandas(rows), bank.path("today.parquet"))
    bank.dumped(model, schema="mixed.toml")
    own = model.predict_proba(rows.assign(mcc=rows["mcc"].astype(int))[MIXED])[:, 1]
    assert np.array_equal(bank.scores(), own)


def test_a_new_category_is_scored_as_the_model_scores_it(bank: Bank) -> None:
    rows = TODAY.assign(mcc=TODAY["mcc"].replace("nine", "new"))
    pq.write_table(pa.Table.from_pandas(rows), bank.path("today.parquet"))
    for encoder in (ONE_HOT, ORDINAL):
        model = mixed(encoder)
        bank.dumped(model, schema="mixed.toml")
        assert np.array_equal(bank.scores(), model.predict_proba(rows[MIXED])[:, 1])


def test_an_encoder_that_refuses_new_categories_is_refused_first(bank: Bank) -> None:
    with fails(Code.MODEL_UNSUITED, "'mcc'.*handle_unknown"):
        bank.dumped(mixed(OneHotEncoder()), schema="mixed.toml")


def test_text_is_never_scored_as_a_number(bank: Bank) -> None:
    bank.path("wrong.toml").write_text(SCHEMA + CATEGORY.replace("categorical", "numeric"))
    with fails(Code.MODEL_UNSUITED, "'mcc'.*categorical"):
        bank.dumped(mixed(ONE_HOT), schema="wrong.toml")


def lower(frame: pd.DataFrame) -> pd.DataFrame:
    """A step whose results no list of categories tells from the input."""
    return frame.apply(lambda column: column.str.lower())


def test_categories_behind_a_function_are_taken_from_labelled_rows(bank: Bank) -> None:
    model = mixed(make_pipeline(FunctionTransformer(lower), ONE_HOT))
    with fails(Code.OPTION_MISSING, "'mcc'.*--check", kind=UsageError):
        bank.dumped(model, schema="mixed.toml")
    bank.dumped(model, schema="mixed.toml", check=(str(bank.path("history.parquet")),))
    assert np.array_equal(bank.scores(), model.predict_proba(TODAY[MIXED])[:, 1])


def test_a_matrix_of_objects_is_rebuilt(bank: Bank) -> None:
    encoder = ColumnTransformer([("c", ONE_HOT, [1])], remainder="passthrough")
    model = make_pipeline(encoder, forest_of(5)).fit(FRAME[MIXED].to_numpy(object), Y)
    with fails(Code.OPTION_MISSING, "--features", kind=UsageError):
        bank.dumped(model, schema="mixed.toml")
    bank.dumped(model, schema="mixed.toml", features="hour,mcc,value")
    own = model.predict_proba(TODAY[MIXED].to_numpy(object))[:, 1]
    assert np.array_equal(bank.scores(), own)


TEXTS = np.where(Y == 1, "stolen", "a-ok")


@pytest.mark.parametrize(
    ("labels", "positive", "column"),
    [
        (TEXTS, "stolen", 1),
        (np.where(Y == 1, "bad", "good"), "bad", 0),
        (np.where(Y == 1, -1, 1), "-1", 0),
        (np.where(Y == 1, 7, np.where(FRAME["hour"] > 12, 2, 3)), "7", 2),
        (Y.astype(str), "1", 1),
    ],
)
def test_other_classes_need_the_one_that_is_fraud(
    bank: Bank, labels: Any, positive: str, column: int
) -> None:
    model = forest(OTHER, labels)
    with fails(Code.OPTION_MISSING, "--positive", kind=UsageError):
        bank.dumped(model)
    with fails(Code.OPTION_VALUE, "--positive 99", kind=UsageError):
        bank.dumped(model, positive="99")
    result = bank.dumped(model, positive=positive)
    assert result["positive"] == positive
    assert np.array_equal(bank.scores(), model.predict_proba(TODAY[OTHER])[:, column])


def test_classes_that_are_the_wrong_way_round_are_found_by_labelled_rows(
    bank: Bank, caplog: pytest.LogCaptureFixture
) -> None:
    model, check = forest(NUMBERS, 1 - Y), (str(bank.path("history.parquet")),)
    caplog.set_level(logging.WARNING)
    result = bank.dumped(model, check=check)
    assert result["check"]["roc_auc"] < 0.1
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "worse than chance" in warning
    assert "--positive 0" in warning
    caplog.clear()
    assert bank.dumped(model, check=check, positive="0")["check"]["roc_auc"] > 0.9
    assert not caplog.records


@pytest.mark.parametrize(
    ("model", "own"),
    [
        (LinearSVC(), lambda model: model.decision_function(TODAY[NUMBERS])),
        (SGDClassifier(random_state=0), lambda model: model.decision_function(TODAY[NUMBERS])),
        (
            IsolationForest(n_estimators=10, random_state=0),
            lambda model: -model.decision_function(TODAY[NUMBERS]),
        ),
    ],
)
def test_decisions_are_mapped_without_a_tie(
    bank: Bank, model: Any, own: Callable[[Any], Any]
) -> None:
    bank.path("bank.toml").write_text(SCHEMA.replace("allow", "reject"))
    result = bank.dumped(model.fit(FRAME[NUMBERS], Y))
    assert "no probability" in result["score"]
    decisions = own(model)
    np.testing.assert_allclose(bank.scores(), mapped(decisions), rtol=0, atol=1e-12)
    assert len(np.unique(bank.scores())) == len(np.unique(decisions))


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ({"model": forest(NUMBERS), "threshold": 0.3}, "'model'"),
        ((StandardScaler(), forest(NUMBERS)), "Pipeline"),
        (
            VotingClassifier([("a", forest_of(2)), ("b", forest_of(3))]).fit(FRAME[NUMBERS], Y),
            "voting='soft'",
        ),
        (forest(NUMBERS, np.zeros(ROWS)), "two or more"),
        (LogisticRegression().fit(FRAME[NUMBERS], Y), "'dist'"),
    ],
)
def test_what_ranks_nothing_is_refused_with_what_to_do(bank: Bank, model: Any, named: str) -> None:
    with fails(Code.MODEL_UNSUITED, named) as caught:
        bank.dumped(model)
    assert "\n" not in str(caught.value)


def xgb(**settings: Any) -> Any:
    return xgboost.XGBClassifier(n_estimators=20, n_jobs=1, **settings)


@pytest.mark.parametrize("ending", ["json", "ubj"])
def test_a_file_of_xgboost_gives_the_scores_of_its_classifier(bank: Bank, ending: str) -> None:
    early = xgb(early_stopping_rounds=1, learning_rate=2.0)
    early.fit(FRAME[OTHER], Y, eval_set=[(FRAME[OTHER][:50], 1 - Y[:50])], verbose=False)
    early.save_model(bank.path(f"m.{ending}"))
    assert bank.native(f"m.{ending}")["features"] == ["amount", "dist", "hour"]
    assert np.array_equal(bank.scores(), early.predict_proba(TODAY[OTHER])[:, 1])
    if ending == "ubj":
        return
    # A booster predicts by all trees.
    booster = early.get_booster()
    booster.save_model(bank.path(f"b.{ending}"))
    bank.native(f"b.{ending}")
    assert np.array_equal(bank.scores(), booster.predict(xgboost.DMatrix(TODAY[OTHER])))


def test_pandas_categories_of_xgboost_and_lightgbm_are_rebuilt(bank: Bank) -> None:
    columns, rows = ["hour", "mcc", "dist", "value"], TODAY_CATEGORIES
    model = xgb(enable_categorical=True).fit(CATEGORIES[columns], Y)
    model.save_model(bank.path("m.json"))
    bank.native("m.json", schema="mixed.toml")
    assert np.array_equal(bank.scores(), model.predict_proba(rows[columns])[:, 1])
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(CATEGORIES[columns], Y)
    model.booster_.save_model(bank.path("m.txt"))
    bank.native("m.txt", schema="mixed.toml")
    assert np.array_equal(bank.scores(), model.predict_proba(rows[columns])[:, 1])
    model = HistGradientBoostingClassifier(max_iter=5).fit(CATEGORIES[columns], Y)
    bank.dumped(model, schema="mixed.toml")
    assert np.array_equal(bank.scores(), model.predict_proba(rows[columns])[:, 1])


def test_codes_without_their_categories_are_refused(bank: Bank) -> None:
    codes = FRAME[NUMBERS].assign(mcc=CATEGORIES["mcc"].cat.codes)
    types = ["float", "float", "float", "c"]
    data = xgboost.DMatrix(
        codes.to_numpy(float), Y, feature_names=[*codes], feature_types=types, nthread=1
    )
    xgboost.train({"objective": "binary:logistic"}, data, 3).save_model(bank.path("m.json"))
    for schema in ("mixed.toml", "numbers.toml"):
        text = SCHEMA + CATEGORY
        bank.path("numbers.toml").write_text(text.replace("categorical", "numeric"))
        with fails(Code.MODEL_UNSUITED, "'mcc'"):
            bank.native("m.json", schema=schema, check=(str(bank.path("history.parquet")),))


def test_a_pickle_of_another_version_of_xgboost_is_rebuilt(bank: Bank) -> None:
    model = xgb().fit(FRAME[OTHER], Y)
    own = model.predict_proba(TODAY[OTHER])[:, 1]
    del model.feature_weights  # an attribute that earlier versions do not have
    bank.dumped(model)
    assert np.array_equal(bank.scores(), own)


def test_a_file_of_lightgbm_is_explained_and_says_that_it_has_no_labels(
    bank: Bank, caplog: pytest.LogCaptureFixture
) -> None:
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1)
    model.fit(FRAME[NUMBERS].to_numpy(), TEXTS).booster_.save_model(bank.path("m.txt"))
    with fails(Code.OPTION_MISSING, "--features", kind=UsageError):
        bank.native("m.txt")
    caplog.set_level(logging.WARNING)
    bank.native("m.txt", features="hour,dist,value")
    assert "--positive" in caplog.text
    assert np.array_equal(bank.scores(), model.predict_proba(TODAY[NUMBERS].to_numpy())[:, 1])
    bundle = open_bundle(str(bank.path("bundle")))
    explainer = explainer_of(load_model(bundle), bundle.features, read_reference(bundle))
    assert isinstance(explainer, LightGBMExplainer)


def test_a_name_with_blanks_is_found_as_lightgbm_writes_it(bank: Bank) -> None:
    bank.path("bank.toml").write_text(SCHEMA.replace('"value"', '"Amount in EUR"'))
    frame = FRAME.rename(columns={"value": "Amount in EUR"})
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1)
    model.fit(frame[["Amount in EUR", "hour"]], Y)
    assert bank.dumped(model)["features"] == ["amount", "hour"]


@pytest.mark.parametrize("objective", ["reg:squarederror", "binary:logitraw"])
def test_an_objective_without_probabilities_is_refused(bank: Bank, objective: str) -> None:
    data = xgboost.DMatrix(FRAME[NUMBERS], Y)
    xgboost.train({"objective": objective}, data, 2).save_model(bank.path("m.json"))
    with fails(Code.MODEL_UNSUITED, objective):
        bank.native("m.json")


def cat(**settings: Any) -> Any:
    quiet = {"verbose": 0, "allow_writing_files": False, "thread_count": 1}
    return catboost.CatBoostClassifier(iterations=5, **quiet, **settings)


def test_a_file_of_catboost_gives_its_own_scores(bank: Bank) -> None:
    model = cat().fit(FRAME[OTHER], TEXTS)
    model.save_model(bank.path("m.cbm"))
    result = bank.native("m.cbm", positive="stolen")
    assert result["features"] == ["amount", "dist", "hour"]
    assert np.array_equal(bank.scores(), model.predict_proba(TODAY[OTHER])[:, 1])
    assert "catboost" in open_bundle(str(bank.path("bundle"))).manifest.versions
    cat().fit(FRAME[OTHER].to_numpy(), Y).save_model(bank.path("n.cbm"))
    with fails(Code.OPTION_MISSING, "--features", kind=UsageError):
        bank.native("n.cbm")


def test_categories_that_catboost_only_hashes_come_from_labelled_rows(
    bank: Bank, caplog: pytest.LogCaptureFixture
) -> None:
    model = cat(cat_features=["mcc"]).fit(FRAME[MIXED], Y)
    model.save_model(bank.path("m.cbm"))
    with fails(Code.OPTION_MISSING, "'mcc'.*--check", kind=UsageError):
        bank.native("m.cbm", schema="mixed.toml")
    bank.native("m.cbm", schema="mixed.toml", check=(str(bank.path("history.parquet")),))
    assert "'mcc'" in caplog.text
    assert np.array_equal(bank.scores(), model.predict_proba(TODAY[MIXED])[:, 1])


def test_skops_opens_trusted_types_alone(bank: Bank) -> None:
    encoder = ColumnTransformer([("c", ONE_HOT, ["mcc"])], remainder=StandardScaler())
    model = make_pipeline(encoder, LogisticRegression()).fit(FRAME[MIXED], Y)
    skops.dump(model, bank.path("m.skops"))
    bank.native("m.skops", schema="mixed.toml")
    own = model.predict_proba(TODAY[MIXED])[:, 1]
    np.testing.assert_allclose(bank.scores(), own, rtol=0, atol=1e-12)
    boosted = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(FRAME[NUMBERS], Y)
    skops.dump(boosted, bank.path("n.skops"))
    with fails(Code.CONSENT_MISSING, "lightgbm.sklearn.LGBMClassifier"):
        bank.native("n.skops")
    bank.native("n.skops", trust=True)
    assert np.array_equal(bank.scores(), boosted.predict_proba(TODAY[NUMBERS])[:, 1])


def onnx_scores(path: Path, feeds: dict[str, Any], column: int) -> Any:
    session = importlib.import_module("onnxruntime").InferenceSession(str(path))
    _, answers = session.run(None, feeds)
    if isinstance(answers, list):
        return np.array([list(answer.values())[column] for answer in answers])
    return answers[:, column]


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize(("labels", "positive"), [(Y, None), (TEXTS, "stolen")])
def test_a_graph_of_onnx_gives_its_own_scores(
    bank: Bank, zipmap: bool, labels: Any, positive: str | None
) -> None:
    single = FRAME[OTHER].to_numpy(np.float32)
    model = forest_of(5).fit(single, labels)
    graph = skl2onnx.to_onnx(model, single[:1], options={id(model): {"zipmap": zipmap}})
    bank.path("m.onnx").write_bytes(graph.SerializeToString())
    with fails(Code.OPTION_MISSING, "--features|--positive", kind=UsageError):
        bank.native("m.onnx")
    bank.native("m.onnx", features="value,dist,hour", positive=positive)
    assert "onnxruntime" in open_bundle(str(bank.path("bundle"))).manifest.versions
    feeds = {"X": TODAY[OTHER].to_numpy(np.float32)}
    assert np.array_equal(bank.scores(), onnx_scores(bank.path("m.onnx"), feeds, 1))


def test_a_graph_with_an_input_for_each_column_has_names_and_categories(bank: Bank) -> None:
    types = skl2onnx.common.data_types
    number, text = types.FloatTensorType([None, 1]), types.StringTensorType([None, 1])
    initial = [("hour", number), ("mcc", text), ("value", number)]
    graph = skl2onnx.convert_sklearn(mixed(ONE_HOT), initial_types=initial)
    bank.path("m.onnx").write_bytes(graph.SerializeToString())
    assert bank.native("m.onnx", schema="mixed.toml")["features"] == ["hour", "mcc", "amount"]
    feeds = {
        name: TODAY[[name]].to_numpy(object if name == "mcc" else np.float32) for name in MIXED
    }
    assert np.array_equal(bank.scores(), onnx_scores(bank.path("m.onnx"), feeds, 1))


def test_a_graph_of_a_regression_is_refused(bank: Bank) -> None:
    model = IsolationForest(n_estimators=3).fit(FRAME[NUMBERS].to_numpy(np.float32))
    graph = skl2onnx.to_onnx(
        model, FRAME[NUMBERS].to_numpy(np.float32)[:1], target_opset={"": 15, "ai.onnx.ml": 3}
    )
    bank.path("m.onnx").write_bytes(graph.SerializeToString())
    with fails(Code.MODEL_UNSUITED, "classes"):
        bank.native("m.onnx", features="hour,dist,value")


def test_an_exported_bundle_is_imported_with_its_names_and_categories(
    bank: Bank, tmp_path: Path
) -> None:
    call = ["train", str(bank.path("history.parquet")), "--schema", str(bank.path("mixed.toml"))]
    call += ["--model", "forest", "--set", "trees=3", "--out", str(bank.path("trained"))]
    assert main(call) == 0
    assert (
        main(["models", "export", str(bank.path("trained")), "--onnx", f"{tmp_path}/m.onnx"]) == 0
    )
    bank.native("m.onnx", schema="mixed.toml")
    scores = bank.scores()
    bank.path("trained").rename(bank.path("moved"))
    bundle = open_bundle(str(bank.path("moved")))
    rows = load_dataset(Place.parse_all([str(bank.path("today.parquet"))]), bundle.schema)
    matrix = feature_matrix(rows.transactions, bundle.features)
    np.testing.assert_allclose(scores, predict_scores(load_model(bundle), matrix), atol=1e-6)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"<?xml version='1.0'?><PMML/>", "PMML"),
        (b"\x89HDF\r\n", "ONNX"),
        (b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner", "can't be opened"),
        (b"tree\nversion=v4\n", "can't be opened"),
        (b"CBM1\x00", "can't be opened"),
        (b"\x08\x07\x12", "can't be opened"),
    ],
)
def test_a_damaged_or_foreign_file_is_an_error_of_one_line(
    bank: Bank, content: bytes, named: str
) -> None:
    bank.path("m").write_bytes(content)
    with pytest.raises(FraudError, match=named) as caught:
        bank.native("m", trust=True)
    assert "\n" not in str(caught.value)


def test_a_file_that_ends_the_library_is_an_error_of_one_line(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(FRAME[NUMBERS], Y)
    text = model.booster_.model_to_string()
    bank.path("m.txt").write_text(text[: len(text) // 3])
    # A module of the working directory is not run.
    bank.path("numpy.py").write_text("raise SystemExit(0)")
    monkeypatch.chdir(bank.directory)
    with fails(Code.MODEL_UNSUITED, "damaged"):
        bank.native("m.txt")


def test_the_version_of_xgboost_is_named_where_its_file_cannot_be_opened(bank: Bank) -> None:
    bank.path("m.json").write_text('{"learner": {}, "version": [1, 7, 6]}')
    with fails(Code.MODEL_UNSUITED, "saved by xgboost 1.7.6"):
        bank.native("m.json")


def test_an_imported_pipeline_of_data_frames_scores_everywhere(bank: Bank) -> None:
    model = mixed(ONE_HOT)
    bank.dumped(model, schema="mixed.toml", threshold=0.3)
    own = dict(zip(TODAY["id"], model.predict_proba(TODAY[MIXED])[:, 1], strict=True))
    options = ScoreOptions(
        files=(str(bank.path("today.parquet")),),
        model=str(bank.path("bundle")),
        out=str(bank.path("scored")),
    )
    score.run(replace(options))
    rows = pq.read_table(bank.path("scored") / "scores").to_pylist()
    assert {row["transaction_id"]: row["score"] for row in rows} == own
    flagged = [row for row in rows if row["flagged"]]
    assert flagged
    assert all(row["reasons"] for row in flagged)
    scored = beam_fraud.score(TODAY.drop(columns="fraud"), str(bank.path("bundle")))
    frame = getattr(scored, "scores", scored)
    assert len(frame) == len(TODAY)
    call = ["evaluate", str(bank.path("history.parquet")), "--model", str(bank.path("bundle"))]
    assert main(call) == 0

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from beam_fraud.cli import main
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.importing import Confirmed, ImportedModel, open_saved
from beam_fraud.models.model_files.saved import read_model_file
from beam_fraud.models.predict import predict_scores
from beam_fraud.schema.schema import FeatureColumn, Schema
from beam_fraud.schema.velocity import Velocity
from tests.failing import fails

SCHEMA = Schema(
    name="test",
    roles={"event_time": "t", "amount": "Amount"},
    features=(FeatureColumn("V1"),),
    calendar=False,
)
RANDOM = np.random.default_rng(0)
# A fraud is an amount above 1, whatever V1 is.
X = RANDOM.normal(size=(400, 2))
Y = (X[:, 1] > 1).astype(int)


def opened(path: Path, schema: Schema = SCHEMA, **confirmed: Any) -> ImportedModel:
    return open_saved(read_model_file(str(path)), schema, Confirmed(trust=True, **confirmed))


def imported(
    model: Any, path: Path, schema: Schema = SCHEMA, features: tuple[str, ...] | None = None
) -> ImportedModel:
    """Import a model; one without names takes the order of the schema, as its user confirms."""
    joblib.dump(model, path)
    named = hasattr(model, "feature_names_in_")
    order = FeatureSet(schema).names if features is None and not named else features or ()
    return opened(path, schema, features=order)


def test_a_model_without_names_takes_the_confirmed_order(tmp_path: Path) -> None:
    joblib.dump(LogisticRegression().fit(X, Y), tmp_path / "m")
    with fails(Code.OPTION_MISSING, "--features", kind=UsageError):
        opened(tmp_path / "m")
    done = opened(tmp_path / "m", features=("V1", "Amount"))
    assert done.features.names == ("V1", "amount")
    assert done.microseconds_per_row > 0
    assert opened(tmp_path / "m", features=("amount", "V1")).features.names == ("amount", "V1")


def test_a_model_of_the_only_feature_needs_no_confirmation(tmp_path: Path) -> None:
    joblib.dump(LogisticRegression().fit(X[:, 1:], Y), tmp_path / "m")
    assert opened(tmp_path / "m", replace(SCHEMA, features=())).features.names == ("amount",)


@pytest.mark.parametrize(
    ("features", "code", "named"),
    [
        (("V1",), Code.OPTION_VALUE, "names 1"),
        (("V1", "V1"), Code.OPTION_VALUE, "'V1'"),
        (("V1", "V2"), Code.OPTION_VALUE, "'V2'"),
    ],
)
def test_an_order_that_cannot_be_is_refused(
    tmp_path: Path, features: tuple[str, ...], code: Code, named: str
) -> None:
    joblib.dump(LogisticRegression().fit(X, Y), tmp_path / "m")
    with fails(code, named, kind=UsageError):
        opened(tmp_path / "m", features=features)


def test_an_order_that_contradicts_the_names_of_the_model_is_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"Amount": X[:, 1], "other": X[:, 0]})
    joblib.dump(LogisticRegression().fit(frame, Y), tmp_path / "m")
    with fails(Code.MODEL_UNSUITED, "'other'"):
        opened(tmp_path / "m")
    with fails(Code.OPTION_CONFLICT, "'Amount'", kind=UsageError):
        opened(tmp_path / "m", features=("V1", "Amount"))
    assert opened(tmp_path / "m", features=("Amount", "V1")).features.names == ("amount", "V1")


def test_a_model_with_names_keeps_its_own_order(tmp_path: Path) -> None:
    frame = pd.DataFrame({"Amount": X[:, 1], "V1": X[:, 0]})
    done = imported(
        make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, Y), tmp_path / "m"
    )
    assert done.features.names == ("amount", "V1")
    scores = predict_scores(done.model, np.array([[3.0, -9.0], [-3.0, 9.0]]))
    assert scores[0] > 0.9
    assert scores[1] < 0.1


def test_a_plain_pickle_is_read_too(tmp_path: Path) -> None:
    model = LogisticRegression().fit(X, Y)
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(model))
    done = opened(tmp_path / "m.pkl", features=("V1", "amount"))
    assert np.array_equal(predict_scores(done.model, X), model.predict_proba(X)[:, 1])


def test_an_imported_model_predicts_on_one_thread(tmp_path: Path) -> None:
    forest = RandomForestClassifier(3, n_jobs=-1).fit(X, Y)
    assert imported(make_pipeline(forest).fit(X, Y), tmp_path / "m").model[-1].n_jobs == 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (LinearRegression().fit(X, Y), "LinearRegression has no predict_proba"),
        (LogisticRegression(), "none, it was never fitted"),
        (LogisticRegression().fit(X, Y + (X[:, 0] > 1)), "has the classes 0, 1, 2"),
        (LogisticRegression().fit(X, np.where(Y, "fraud", "genuine")), "classes fraud, genuine"),
        (LogisticRegression().fit(X[:, :1], Y), "LogisticRegression takes 1 features"),
        (
            LogisticRegression().fit(pd.DataFrame({"V1": X[:, 0], "V2": X[:, 1]}), Y),
            "takes the feature 'V2'",
        ),
        ({"weights": [1, 2]}, "dict has no predict_proba"),
    ],
)
def test_a_model_that_cannot_serve_is_refused(tmp_path: Path, model: Any, message: str) -> None:
    with pytest.raises(FraudError, match=message) as caught:
        imported(model, tmp_path / "m")
    assert str(caught.value).startswith(str(tmp_path / "m"))


def test_classes_of_minus_one_and_one_serve_when_one_is_confirmed(tmp_path: Path) -> None:
    model = LogisticRegression().fit(X, np.where(Y, 1, -1))
    with fails(Code.OPTION_MISSING, "--positive", kind=UsageError):
        imported(model, tmp_path / "m")
    for positive, column in (("1", 1), ("-1", 0)):
        done = opened(tmp_path / "m", features=("V1", "amount"), positive=positive)
        scores = predict_scores(done.model, X)
        assert np.array_equal(scores, model.predict_proba(X)[:, column])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"cno_such_module\nThing\n."])
def test_an_object_that_is_no_model_is_an_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(FraudError, match="can't be opened") as caught:
        opened(tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    with fails(Code.INPUT_UNREADABLE):
        read_model_file(str(tmp_path / "absent"))


def test_a_model_that_needs_optional_values_is_refused(tmp_path: Path) -> None:
    schema = replace(SCHEMA, features=(FeatureColumn("V1", missing="allow"),))
    with fails(Code.MODEL_UNSUITED, "without 'V1', which the schema test"):
        imported(LogisticRegression().fit(X, Y), tmp_path / "m", schema)
    imported(make_pipeline(SimpleImputer(), LogisticRegression()).fit(X, Y), tmp_path / "m", schema)


def test_only_undefined_window_features_are_probed_as_absent(tmp_path: Path) -> None:
    schema = replace(SCHEMA, features=(), roles={**SCHEMA.roles, "account_id": "card"})
    counted = replace(schema, velocity=(Velocity(("account_id",), ("1d",), ("count",)),))
    imported(LogisticRegression().fit(X, Y), tmp_path / "m", counted)
    spread = replace(schema, velocity=(Velocity(("account_id",), ("1d",), ("std",)),))
    with fails(Code.MODEL_UNSUITED, "without 'account_std_1d'"):
        imported(LogisticRegression().fit(X, Y), tmp_path / "m", spread)


def test_known_risk_is_never_absent_but_a_key_may_be(tmp_path: Path) -> None:
    schema = replace(SCHEMA, features=(), roles={**SCHEMA.roles, "account_id": "card"})
    risk = replace(schema, velocity=(Velocity(("account_id",), ("1d",), ("risk",), delay="7d"),))
    imported(LogisticRegression().fit(X, Y), tmp_path / "m", risk)
    device = replace(schema, velocity=(Velocity(("device",), ("1d",), ("count",)),))
    with fails(Code.MODEL_UNSUITED, "without 'device_count_1d'"):
        imported(LogisticRegression().fit(X, Y), tmp_path / "m", device)


def test_a_category_that_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    schema = Schema(
        name="shop",
        roles={"event_time": "t", "amount": "Amount"},
        features=(FeatureColumn("mcc", "categorical"),),
        calendar=False,
    )
    with fails(Code.OPTION_MISSING, "'mcc'", kind=UsageError):
        imported(LogisticRegression().fit(X, Y), tmp_path / "m", schema)


OLD = Path(__file__).parent.parent / "data"
TOML = """name = "test"
calendar = false
[roles]
event_time = "t"
amount = "Amount"
[[feature]]
column = "V1"
"""


class SpeechlessError(Exception):
    """An error whose text raises."""

    def __str__(self) -> str:
        raise OSError("no words")


RAISED = [
    AttributeError("'Thing' object has no attribute 'x'"),
    ModuleNotFoundError("No module named 'ghost'", name="ghost"),
    RecursionError("maximum recursion depth exceeded"),
    SystemExit(0),
    GeneratorExit(),
    StopIteration(),
    MemoryError(),
    OSError(2, "No such file or directory"),
    KeyError("x"),
    ValueError("one\ntwo"),
    SpeechlessError(),
]


class Hostile:
    """A classifier that, once opened, raises at every access to an attribute."""

    classes_ = np.array([0, 1])
    n_features_in_ = 2
    feature_names_in_ = np.array(["V1", "Amount"])

    def __init__(self, where: str, error: BaseException) -> None:
        self.where, self.error = where, error

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, armed=True)
        if self.where == "__setstate__":
            raise self.error

    def __getattribute__(self, name: str) -> Any:
        known = object.__getattribute__(self, "__dict__")
        if known.get("armed") and known["where"] == name:
            raise known["error"]
        return object.__getattribute__(self, name)

    def __reduce__(self) -> Any:
        return Hostile, (self.where, self.error), {"where": self.where, "error": self.error}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {}

    def set_params(self, **values: Any) -> None:
        pass

    def predict_proba(self, matrix: Any) -> Any:
        return np.tile([0.75, 0.25], (len(matrix), 1))


class Shapeless(Hostile):
    """A classifier whose probabilities have the wrong shape."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.where = answer, ""

    def __reduce__(self) -> Any:
        return Shapeless, (self.answer,)

    def predict_proba(self, matrix: Any) -> Any:
        return self.answer


def import_by_command(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[str]]:
    """Run `models import`; return its exit code and lines on standard error."""
    (tmp_path / "s.toml").write_text(TOML)
    call = [*("--schema", str(tmp_path / "s.toml")), "--trust", "--out", str(tmp_path / "out")]
    call += ["--features", "V1,Amount"]
    code = main(["models", "import", str(file), *call])
    return code, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "where",
    [
        *("__setstate__", "predict_proba", "classes_", "n_features_in_", "feature_names_in_"),
        *("get_params", "set_params", "__reduce_ex__"),
    ],
)
def test_any_exception_of_an_object_is_one_line(
    where: str, error: BaseException, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m").write_bytes(pickle.dumps(Hostile(where, error)))
    code, lines = import_by_command(tmp_path / "m", tmp_path, capsys)
    assert code in (0, 1)
    # An AttributeError says that something is absent, and much may be.
    needed = where in ("__setstate__", "predict_proba", "classes_")
    if code or needed or not isinstance(error, AttributeError):
        assert code == 1
        (line,) = lines
        assert line.startswith(f"beam-fraud: {tmp_path}")
        assert "internal error" not in line
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "answer",
    [
        *(None, 0.5, [], "text", np.zeros(100), np.zeros((100, 1)), np.zeros((99, 2))),
        *(np.full((100, 2), np.nan), np.full((100, 2), 7.0), pd.DataFrame({"a": [1]})),
    ],
    ids=str,
)
def test_invalid_probabilities_are_refused(answer: Any, tmp_path: Path) -> None:
    with pytest.raises(FraudError) as caught:
        imported(Shapeless(answer), tmp_path / "m")
    assert str(caught.value).startswith(str(tmp_path / "m"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compress", [0, 3, "gzip", "bz2", "lzma", "xz"])
@pytest.mark.parametrize("left", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_an_error_of_one_line(
    compress: int | str, left: float, tmp_path: Path
) -> None:
    joblib.dump(RandomForestClassifier(3).fit(X, Y), tmp_path / "m", compress=compress)
    data = (tmp_path / "m").read_bytes()
    (tmp_path / "m").write_bytes(data[: int(len(data) * left)])
    with pytest.raises(FraudError, match="can't be opened") as caught:
        opened(tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_pickle_is_reported_as_such(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"weights": {}}')
    with pytest.raises(FraudError, match="is no file of joblib or pickle"):
        opened(tmp_path / "m.json")


def test_a_model_of_an_older_scikit_learn_that_cannot_serve_names_both_versions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = import_by_command(OLD / "scikit_learn_1_4_2_pipeline.pkl", tmp_path, capsys)
    assert code == 1
    (line,) = lines
    assert "saved by scikit-learn 1.4.2, can't be used by the installed " in line
    assert f"the installed {version('scikit-learn')} (" in line


@pytest.mark.parametrize("compress", [0, 3])
def test_the_version_is_named_where_opening_fails_before_any_estimator(
    compress: int, tmp_path: Path
) -> None:
    saved = {"_sklearn_version": "1.3.1", "model": Hostile("__setstate__", ValueError("no"))}
    joblib.dump(saved, tmp_path / "m", compress=compress)
    with pytest.raises(FraudError, match=r"saved by scikit-learn 1\.3\.1, can't be opened by"):
        opened(tmp_path / "m")


def test_an_older_forest_serves_with_one_warning_and_a_card_that_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = import_by_command(OLD / "scikit_learn_1_4_2_forest.joblib", tmp_path, capsys)
    assert code == 0
    (line,) = lines
    assert f"saved by scikit-learn 1.4.2, {version('scikit-learn')} is installed" in line
    assert "saved by scikit-learn `1.4.2`" in (tmp_path / "out" / "card.md").read_text()


def test_a_repeated_warning_is_shown_once_with_its_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    imported(Warns(), tmp_path / "m")
    assert [r.getMessage() for r in caplog.records if "beware" in r.getMessage()] == [
        f"{tmp_path / 'm'}: beware of this (3 times)"
    ]


class Warns(Hostile):
    """A classifier that warns when it is unpickled."""

    def __init__(self) -> None:
        super().__init__("", ValueError())

    def __reduce__(self) -> Any:
        return Warns, (), {"where": "", "error": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for _ in range(3):
            warnings.warn("beware of this", UserWarning, stacklevel=1)

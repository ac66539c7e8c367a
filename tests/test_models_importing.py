from __future__ import annotations

import pickle
from dataclasses import replace
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

from beam_fraud.errors import FraudError
from beam_fraud.models.importing import ImportedModel, open_trusted, read_model_file
from beam_fraud.models.predict import predict_scores
from beam_fraud.schema import FeatureColumn, Schema
from beam_fraud.velocity import Velocity

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


def imported(model: Any, path: Path, schema: Schema = SCHEMA) -> ImportedModel:
    joblib.dump(model, path)
    return open_trusted(read_model_file(str(path)), schema)


def test_a_model_without_names_takes_the_order_of_the_schema(tmp_path: Path) -> None:
    done = imported(LogisticRegression().fit(X, Y), tmp_path / "m")
    assert done.features.names == ("V1", "amount")
    assert done.microseconds_per_row > 0


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
    done = open_trusted(read_model_file(str(tmp_path / "m.pkl")), SCHEMA)
    assert np.array_equal(predict_scores(done.model, X), model.predict_proba(X)[:, 1])


def test_an_imported_model_predicts_on_one_thread(tmp_path: Path) -> None:
    forest = RandomForestClassifier(3, n_jobs=-1).fit(X, Y)
    assert imported(make_pipeline(forest).fit(X, Y), tmp_path / "m").model[-1].n_jobs == 1


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (LinearRegression().fit(X, Y), "LinearRegression has no predict_proba"),
        (LogisticRegression(), "none, it was never fitted"),
        (LogisticRegression().fit(X, Y + (X[:, 0] > 1)), "has the classes 0, 1, 2"),
        (LogisticRegression().fit(X, np.where(Y, "fraud", "genuine")), "classes fraud, genuine"),
        (LogisticRegression().fit(X[:, :1], Y), "takes 1 features, the schema has 2"),
        (
            LogisticRegression().fit(pd.DataFrame({"V1": X[:, 0], "V2": X[:, 1]}), Y),
            "takes the feature 'V2'",
        ),
        ({"weights": [1, 2]}, "dict has no predict_proba"),
    ],
)
def test_a_model_that_cannot_serve_is_refused(tmp_path: Path, model: Any, said: str) -> None:
    with pytest.raises(FraudError, match=said) as caught:
        imported(model, tmp_path / "m")
    assert str(caught.value).startswith(str(tmp_path / "m"))


def test_classes_of_minus_one_and_one_serve(tmp_path: Path) -> None:
    imported(LogisticRegression().fit(X, np.where(Y, 1, -1)), tmp_path / "m")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"cno_such_module\nThing\n."])
def test_what_is_no_model_is_an_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(FraudError, match="can't be opened") as caught:
        open_trusted(read_model_file(str(tmp_path / "m")), SCHEMA)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(FraudError, match="can't be read"):
        read_model_file(str(tmp_path / "absent"))


def test_a_model_that_cannot_do_without_what_may_be_absent_is_refused(tmp_path: Path) -> None:
    schema = replace(SCHEMA, features=(FeatureColumn("V1", missing="allow"),))
    with pytest.raises(FraudError, match="can't score a row without 'V1', which the schema test"):
        imported(LogisticRegression().fit(X, Y), tmp_path / "m", schema)
    imported(make_pipeline(SimpleImputer(), LogisticRegression()).fit(X, Y), tmp_path / "m", schema)


def test_what_windows_may_leave_undefined_is_tried_and_nothing_else(tmp_path: Path) -> None:
    schema = replace(SCHEMA, features=(), roles={**SCHEMA.roles, "account_id": "card"})
    counted = replace(schema, velocity=(Velocity(("account_id",), ("1d",), ("count",)),))
    imported(LogisticRegression().fit(X, Y), tmp_path / "m", counted)
    spread = replace(schema, velocity=(Velocity(("account_id",), ("1d",), ("std",)),))
    with pytest.raises(FraudError, match="without 'account_std_1d'"):
        imported(LogisticRegression().fit(X, Y), tmp_path / "m", spread)


def test_known_risk_is_never_absent_but_a_key_may_be(tmp_path: Path) -> None:
    schema = replace(SCHEMA, features=(), roles={**SCHEMA.roles, "account_id": "card"})
    risk = replace(schema, velocity=(Velocity(("account_id",), ("1d",), ("risk",), delay="7d"),))
    imported(LogisticRegression().fit(X, Y), tmp_path / "m", risk)
    device = replace(schema, velocity=(Velocity(("device",), ("1d",), ("count",)),))
    with pytest.raises(FraudError, match="without 'device_count_1d'"):
        imported(LogisticRegression().fit(X, Y), tmp_path / "m", device)


def test_a_schema_with_categories_is_refused(tmp_path: Path) -> None:
    schema = Schema(
        name="shop",
        roles={"event_time": "t", "amount": "Amount"},
        features=(FeatureColumn("mcc", "categorical"),),
        calendar=False,
    )
    with pytest.raises(FraudError, match="the codes of 'mcc'"):
        imported(LogisticRegression().fit(X, Y), tmp_path / "m", schema)

"""`train`, `evaluate` and `models import` on files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression

from beam_fraud.cli.commands import evaluate, import_model, score, train
from beam_fraud.cli.options import EvaluateOptions, ImportModelOptions, ScoreOptions, TrainOptions
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.dataset import load_dataset
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.bundle import load_model, open_bundle, read_card, read_reference
from beam_fraud.models.predict import predict_scores
from beam_fraud.schema.toml import load_schema
from beam_fraud.storage.urls import Place
from tests.failing import fails

SCHEMA = """
name = "shop"
[roles]
transaction_id = "id"
event_time = "t"
label = "fraud"
amount = "price"
[[feature]]
column = "mcc"
kind = "categorical"
missing = "allow"
"""
ROWS = 2000


def table(rows: int = ROWS, frauds: bool = True) -> pa.Table:
    """A transaction a minute from 2024-01-01 on; large amounts at jewellers' are frauds."""
    random = np.random.default_rng(0)
    mcc = random.choice(["books", "food", "jewels"], rows)
    price = random.lognormal(3, 1, rows).round(2)
    start = np.datetime64("2024-01-01T00:00:00", "us")
    return pa.table(
        {
            "id": [f"t{i}" for i in range(rows)],
            "t": pa.array(start + np.arange(rows) * np.timedelta64(60, "s")),
            "price": price,
            "mcc": mcc,
            "fraud": ((mcc == "jewels") & (price > 40) & frauds).astype(np.int64),
        }
    )


@pytest.fixture
def options(tmp_path: Path) -> TrainOptions:
    pq.write_table(table(), tmp_path / "data.parquet")
    (tmp_path / "shop.toml").write_text(SCHEMA)
    return TrainOptions(
        files=(str(tmp_path / "data.parquet"),),
        schema=str(tmp_path / "shop.toml"),
        model="logistic",
        out=str(tmp_path / "bundle"),
    )


def test_a_model_is_trained_and_evaluated(options: TrainOptions) -> None:
    trained = train.run(options)
    json.dumps(trained)
    bundle = open_bundle(options.out)
    assert trained["model_id"] == bundle.model_id
    assert bundle.manifest.name == "bundle"
    assert bundle.manifest.kind == "logistic"
    assert bundle.manifest.categories == {"mcc": ("books", "food", "jewels")}
    assert bundle.manifest.features == ("mcc", "amount", "is_weekend", "is_night")
    assert bundle.manifest.microseconds_per_row
    assert (trained["rows_train"], trained["rows_valid"]) == (1600, 400)
    assert [d.feature for d in read_reference(bundle).distributions][-1] == "score"

    result = evaluate.run(EvaluateOptions(files=options.files, models=(options.out,)))
    json.dumps(result)
    assert result["rows"] == ROWS
    assert result["model_id"] == bundle.model_id
    assert result["threshold"] == bundle.thresholds.review
    assert isinstance(result["average_precision"], float)
    assert result["average_precision"] > 0.7


def test_reports_show_the_figures(options: TrainOptions) -> None:
    trained = train.run(options)
    text = train.render(trained)
    assert str(trained["model_id"]) in text
    assert "400 validation rows" in text
    result = evaluate.run(EvaluateOptions(files=options.files, models=(options.out,)))
    report = evaluate.render(result)
    assert f"{result['average_precision']:.4f}" in report
    assert f"{result['recall']:.4f}" in report
    assert "2,000 rows" in report
    card = read_card(open_bundle(options.out))
    for message in ("`data.parquet`", "`mcc`", "`f1`", "µs a row", "`seed`: 0", "scikit-learn"):
        assert message in card


@pytest.mark.parametrize("method", ["isotonic", "platt"])
def test_a_calibrated_bundle_gives_probabilities(options: TrainOptions, method: str) -> None:
    options = replace(options, threshold="0.5")
    plain = train.run(options)
    trained = train.run(replace(options, calibrate=method))
    assert trained["calibration"] == method
    assert plain["calibration"] is None
    # A logistic regression with balanced classes gives scores that are far too high.
    result = evaluate.run(EvaluateOptions(files=options.files, models=(options.out,)))
    labels = table().column("fraud").to_numpy()
    model, bundle = load_model(open_bundle(options.out)), open_bundle(options.out)
    assert type(model).__name__ == "Calibrated"
    scores = predict_scores(model, feature_matrix(transactions(options), bundle.features))
    assert scores.mean() == pytest.approx(labels.mean(), rel=0.25)
    precision = cast(dict[str, float], plain["metrics"])["average_precision"]
    assert cast(dict[str, float], trained["metrics"])["average_precision"] == pytest.approx(
        precision, abs=1e-9
    )
    assert result["threshold"] == 0.5
    assert f"`{method}` map" in read_card(bundle)


def transactions(options: TrainOptions) -> pa.Table:
    return load_dataset(Place.parse_all(options.files), load_schema(options.schema)).transactions


def test_an_unknown_calibration_is_refused(options: TrainOptions) -> None:
    with fails(Code.OPTION_VALUE, "--calibrate beta: .* isotonic or platt", kind=UsageError):
        train.run(replace(options, calibrate="beta"))


def test_a_seed_gives_one_model_file(options: TrainOptions, tmp_path: Path) -> None:
    forest = replace(options, model="forest", seed=3)
    digests = []
    for name in ("one", "same"):
        train.run(replace(forest, out=str(tmp_path / name)))
        manifest = open_bundle(str(tmp_path / name)).manifest
        digests.append((manifest.files["model.joblib"], manifest.thresholds, manifest.metrics))
    assert digests[0] == digests[1]


def test_times_bound_the_training_rows(options: TrainOptions) -> None:
    trained = train.run(
        replace(
            options,
            since="2024-01-01T01:00:00",
            valid_from="2024-01-02T00:00:00+01:00",
            until="2024-01-02T03:00:00Z",
        )
    )
    # From 01:00 to 23:00 UTC, then to 03:00, a transaction a minute.
    assert (trained["rows_train"], trained["rows_valid"]) == (22 * 60, 4 * 60)


def test_the_final_model_has_seen_the_validation_rows(options: TrainOptions) -> None:
    changed = table().to_pandas()
    train.run(options)
    before = open_bundle(options.out).manifest.files["model.joblib"]
    changed.loc[ROWS - 5 :, "price"] *= 3
    pq.write_table(pa.Table.from_pandas(changed, preserve_index=False), options.files[0])
    train.run(options)
    assert open_bundle(options.out).manifest.files["model.joblib"] != before


def test_a_stratified_split_reports_on_unseen_rows(options: TrainOptions) -> None:
    result = train.run(replace(options, split="stratified", threshold="0.5"))
    assert result["reported_on"] == "held_out"
    assert (result["rows_train"], result["rows_valid"], result["rows_held_out"]) == (1120, 280, 600)
    assert result["metrics"]["rows"] == 600  # type: ignore[index]
    assert result["threshold"] == 0.5


def test_a_threshold_is_chosen_by_the_option(options: TrainOptions) -> None:
    result = train.run(replace(options, threshold="recall=1"))
    assert result["metrics"]["recall"] == 1.0  # type: ignore[index]
    result = train.run(replace(options, threshold="budget=20"))
    confusion = result["metrics"]["confusion"]  # type: ignore[index]
    assert confusion["tp"] + confusion["fp"] <= 20 * 400 / (24 * 60)
    train.run(replace(options, threshold="cost=amount:5"))
    assert "chosen on the validation rows by `cost=amount:5`" in read_card(open_bundle(options.out))


def test_a_threshold_to_decline_from_is_chosen_on_the_same_rows(options: TrainOptions) -> None:
    result = train.run(replace(options, threshold="recall=1", decline="precision=0.99"))
    review, decline = result["threshold"], result["decline"]
    thresholds = open_bundle(str(result["out"])).thresholds
    assert (thresholds.review, thresholds.decline) == (review, decline)
    assert isinstance(review, float)
    assert isinstance(decline, float)
    assert decline >= review
    assert f"Declined from a score of {decline:.6g}" in train.render(result)
    assert "`precision=0.99`" in read_card(open_bundle(str(result["out"])))
    with pytest.raises(
        FraudError, match=r"^--decline: gives a score of 0.2, which is below the 0.5"
    ):
        train.run(replace(options, threshold="0.5", decline="0.2"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "logstic"}, "did you mean logistic"),
        ({"threshold": "f2"}, "--threshold f2"),
        ({"decline": "f2"}, "--decline f2: not one of"),
        ({"split": "random"}, "--split random"),
        ({"since": "yesterday"}, "--from yesterday: not an ISO 8601 time"),
        ({"until": "2024-13-01"}, "--until 2024-13-01"),
        ({"split": "stratified", "valid_from": "2024-01-02"}, "--valid-from"),
    ],
)
def test_a_usage_error_names_the_option(
    options: TrainOptions, change: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train.run(replace(options, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"since": "2030-01-01"}, "no rows to train on"),
        ({"valid_from": "2030-01-01"}, "give another --valid-from"),
        ({"until": "2024-01-01T00:03:00"}, "frauds and genuine"),
        ({"valid_from": "2024-01-02T09:18:00"}, "2 validation rows"),
        ({"threshold": "budget=0.001"}, "not reachable on the 0.277 days"),
    ],
)
def test_data_that_cannot_make_a_model_is_an_error_of_one_line(
    options: TrainOptions, change: dict[str, str], message: str
) -> None:
    with pytest.raises(FraudError, match=message) as caught:
        train.run(replace(options, **change))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not Path(options.out).exists()


def test_the_output_is_checked_before_anything_is_read(
    options: TrainOptions, tmp_path: Path
) -> None:
    for run, value in (
        (train.run, replace(options, files=("absent.csv",), out=str(tmp_path))),
        (
            import_model.run,
            ImportModelOptions(file="absent", schema="handbook", trust=True, out=str(tmp_path)),
        ),
    ):
        with fails(Code.OUTPUT_OCCUPIED):
            run(value)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["\x1b[31mred", "two\nlines", " "])
def test_a_name_that_a_terminal_cannot_show_is_refused(options: TrainOptions, name: str) -> None:
    with fails(Code.OPTION_VALUE, "--name ", kind=UsageError):
        train.run(replace(options, name=name))


def test_a_bundle_is_not_taken_for_transactions(options: TrainOptions) -> None:
    train.run(options)
    for run, value in (
        (train.run, replace(options, files=(options.out,))),
        (evaluate.run, EvaluateOptions(files=(options.out,), models=(options.out,))),
        (score.run, ScoreOptions(files=(options.out,), model=options.out, out="never")),
    ):
        with fails(Code.INPUT_FORMAT, "give it as --model", kind=UsageError):
            run(value)  # type: ignore[operator]


def test_a_path_that_the_file_system_refuses_is_one_line(
    options: TrainOptions, tmp_path: Path
) -> None:
    # As a directory that somebody else may read.
    arguments = str(tmp_path / ("x" * 300))
    with fails(Code.INPUT_UNREADABLE, r"x: cannot be read: File name too long$"):
        train.run(replace(options, files=(arguments,)))


def test_rows_of_one_class_are_evaluated_but_not_trained_on(options: TrainOptions) -> None:
    train.run(options)
    pq.write_table(table(frauds=False), options.files[0])
    result = evaluate.run(EvaluateOptions(files=options.files, models=(options.out,)))
    assert result["average_precision"] is None
    assert "average precision  undefined: no frauds" in evaluate.render(result)
    with fails(Code.CLASSES_MISSING, "2000 rows is genuine"):
        train.run(options)


def test_evaluation_takes_another_threshold_and_other_times(options: TrainOptions) -> None:
    train.run(options)
    arguments = EvaluateOptions(
        files=options.files, models=(options.out,), threshold=0.0, until="2024-01-01T02:00:00"
    )
    result = evaluate.run(arguments)
    assert result["rows"] == 120
    assert result["recall"] == 1.0
    with fails(Code.OPTION_VALUE, "--threshold 2", kind=UsageError):
        evaluate.run(replace(arguments, threshold=2.0))
    with fails(Code.INPUT_EMPTY):
        evaluate.run(replace(arguments, until="2020-01-01"))


def test_a_model_is_imported_only_when_it_is_trusted(tmp_path: Path) -> None:
    schema = tmp_path / "plain.toml"
    schema.write_text('name = "plain"\ncalendar = false\n[roles]\nevent_time = "t"\namount = "a"\n')
    matrix = np.arange(20.0).reshape(-1, 1)
    joblib.dump(LogisticRegression().fit(matrix, matrix[:, 0] > 10), tmp_path / "m.joblib")
    arguments = ImportModelOptions(
        file=str(tmp_path / "m.joblib"), schema=str(schema), trust=False, out=str(tmp_path / "b")
    )
    with fails(Code.CONSENT_MISSING, "--trust") as caught:
        import_model.run(arguments)
    assert not (tmp_path / "b").exists()
    result = import_model.run(
        replace(arguments, trust=True, threshold=0.7, decline=0.9, name="theirs")
    )
    actual = re.search("[0-9a-f]{64}", str(caught.value))
    assert actual
    assert result["sha256"] == actual.group()
    bundle = open_bundle(str(tmp_path / "b"))
    assert bundle.manifest.name == "theirs"
    assert (bundle.thresholds.review, bundle.thresholds.decline) == (0.7, 0.9)
    assert "0.9 or more declined" in read_card(bundle)
    assert read_reference(bundle).distributions == ()
    assert str(result["sha256"]) in read_card(bundle)
    assert str(result["model_id"]) in import_model.render(result)


def test_an_untrusted_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"not even a pickle")
    arguments = ImportModelOptions(file=str(tmp_path / "m"), schema="ulb", trust=False, out="b")
    with fails(Code.CONSENT_MISSING, "sha256"):
        import_model.run(arguments)
    with fails(Code.OPTION_VALUE, "--threshold", kind=UsageError):
        import_model.run(replace(arguments, threshold=7.0))
    with fails(Code.OPTION_VALUE, r"--decline 0.4: .* 0\.5", kind=UsageError):
        import_model.run(replace(arguments, decline=0.4))


def test_training_evaluating_and_importing_do_not_wait_for_beam() -> None:
    modules = ("train", "evaluate", "import_model", "check_rules")
    imports = "".join(f"import beam_fraud.cli.commands.{name}\n" for name in modules)
    check = f"import sys\n{imports}assert 'apache_beam' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_resamplers_are_compared_and_reported(options: TrainOptions) -> None:
    result = train.run(replace(options, resample="compare"))
    json.dumps(result)
    lines = {line["resample"]: line for line in result["resampling"]}  # type: ignore[attr-defined]
    assert lines["none"]["chosen"]
    # There is nothing between two of the shop's categories.
    assert "use smote" in lines["adasyn=0.1"]["reason"]
    text = train.render(result)
    card = read_card(open_bundle(options.out))
    for name in ("none", "under", "smote", "adasyn", "tomek", "smote-enn", "balanced-bagging"):
        assert f" {name}" in text
        assert f"| {name}" in card


def test_a_resampled_model_is_labelled_and_can_be_tuned(options: TrainOptions) -> None:
    pytest.importorskip("optuna")
    small = replace(options, model="hist_gradient_boosting", settings=("trees=5",), tune=2)
    result = train.run(replace(small, resample="smote=0.5"))
    assert result["settings"]["resample"] == "smote=0.5"  # type: ignore[index]
    assert "Frauds were made up" in read_card(open_bundle(options.out))
    with fails(Code.OPTION_CONFLICT, "--resample compare: .* --tune", kind=UsageError):
        train.run(replace(small, resample="compare"))
    with fails(Code.RESAMPLING_IMPOSSIBLE, "--resample"):
        train.run(replace(options, resample="smote=0.001"))

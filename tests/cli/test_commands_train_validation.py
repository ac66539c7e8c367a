"""`train --folds` and `--tune` on a file."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli import main
from beam_fraud.cli.commands import train
from beam_fraud.cli.options import TrainOptions
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models import kinds
from beam_fraud.models.bundle import open_bundle, read_card
from tests.failing import fails
from tests.hourly import TOML, hourly
from tests.spying import Spy, SpyingModel

PRACTICE = {"folds": 3, "label_delay": "2d", "drop_known_cards": True}


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainOptions:
    monkeypatch.setitem(kinds.KINDS, "spy", Spy())
    pq.write_table(hourly(), tmp_path / "data.parquet")
    (tmp_path / "hourly.toml").write_text(TOML)
    return TrainOptions(
        files=(str(tmp_path / "data.parquet"),),
        schema=str(tmp_path / "hourly.toml"),
        model="spy",
        out=str(tmp_path / "bundle"),
    )


def test_each_fold_is_reported_with_mean_and_spread(options: TrainOptions) -> None:
    result = train.run(replace(options, **PRACTICE))  # type: ignore[arg-type]
    json.dumps(result)
    validation: Any = result["validation"]
    folds = validation["folds"]
    assert [fold["rows_unlabelled"] for fold in folds] == [48, 48, 48]
    assert sum(fold["rows_valid"] for fold in folds) == result["rows_valid"]
    assert all(fold["rows_known_cards"] > 0 for fold in folds)
    assert result["rows_train"] == folds[-1]["rows_train"]
    for name in ("average_precision", "roc_auc", "card_precision_at_100"):
        assert min(fold[name] for fold in folds) < validation[name]["mean"]
        assert validation[name]["spread"] > 0
    text = train.render(result)
    card = read_card(open_bundle(options.out))
    for fold in folds:
        assert f"{fold['average_precision']:.4f}" in text
        assert f"| {fold['average_precision']:.3f} |" in card
    mean, spread = validation["average_precision"].values()
    assert f"{mean:.3f} ± {spread:.3f}" in card
    assert "## Validation" in card
    assert "known by then" in card
    assert "fitted on 600 rows" in card


def test_a_single_split_respects_the_label_delay(options: TrainOptions) -> None:
    arguments = replace(options, valid_from="2024-01-20", label_delay="2d")
    result: Any = train.run(arguments)
    (fold,) = result["validation"]["folds"]
    # 19 days of 24 rows, the last two of them not labelled yet.
    assert (fold["rows_train"], fold["rows_unlabelled"]) == (17 * 24, 2 * 24)
    assert fold["trained_on"][1] == "2024-01-17T23:00:00+00:00"
    assert result["validation"]["average_precision"]["spread"] is None
    assert result["metrics"]["average_precision"] == fold["average_precision"]
    assert "mean" not in train.render(result)


def test_a_plain_split_reports_no_folds(options: TrainOptions) -> None:
    result = train.run(options)
    assert not {"validation", "tuning"} & result.keys()
    assert "Validated on" not in train.render(result)
    assert "## Validation" not in read_card(open_bundle(options.out))


def test_random_folds_and_folds_in_time_are_labelled(options: TrainOptions) -> None:
    result: Any = train.run(replace(options, split="stratified", folds=4))
    assert [fold["rows_valid"] for fold in result["validation"]["folds"]] == [105] * 4
    assert result["rows_held_out"] == result["metrics"]["rows"] == 180
    card = read_card(open_bundle(options.out))
    assert "Folds are of random rows" in card
    assert "180 rows were held out" in card


def test_the_best_settings_are_used_and_the_trials_reported(
    options: TrainOptions, tmp_path: Path
) -> None:
    result: Any = train.run(replace(options, folds=2, tune=8, tune_budget="5m", seed=3))
    json.dumps(result)
    tuning = result["tuning"]
    assert (tuning["trials"], tuning["seed"], tuning["budget_seconds"]) == (8, 3, 300)
    best = tuning["best_trials"][0]
    assert result["settings"]["misled"] == best["settings"]["misled"] < 0.7
    assert result["validation"]["average_precision"]["mean"] == best["average_precision"]
    assert best["average_precision"] > tuning["own_average_precision"]
    text, card = train.render(result), read_card(open_bundle(options.out))
    for message in (f"misled={best['settings']['misled']}", f"{best['average_precision']:.4f}"):
        assert message in text
        assert message in card
    assert "seed 3" in text
    assert "at most 8 within 300 s, seed 3" in card
    # What was kept to go on after an interruption has done its service.
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bundle",
        "data.parquet",
        "hourly.toml",
    ]


def test_trials_are_stored_in_the_file_of_the_option(options: TrainOptions, tmp_path: Path) -> None:
    stored = replace(options, tune=3, tune_store=str(tmp_path / "kept"))
    first: Any = train.run(stored)
    more: Any = train.run(replace(stored, tune=5, threshold="0.5"))
    assert more["tuning"]["trials"] == 5
    assert more["tuning"]["seconds"] > first["tuning"]["seconds"]
    with fails(Code.OUTPUT_OCCUPIED):
        train.run(replace(stored, folds=2))


def test_a_weight_of_the_user_is_not_tuned(options: TrainOptions) -> None:
    forest = replace(options, model="forest", settings=("trees=3",), class_weight="7")
    result: Any = train.run(forest)
    assert result["settings"]["fraud_weight"] == 7.0
    tuned: Any = train.run(replace(forest, tune=3))
    assert tuned["settings"]["fraud_weight"] == 7.0
    for trial in tuned["tuning"]["best_trials"]:
        assert not {"fraud_weight", "trees"} & trial["settings"].keys()


def test_after_ctrl_c_the_same_call_resumes(
    options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = []

    def fit(spy: Spy, rows: Any, seed: int) -> SpyingModel:
        fits.append(spy.misled)
        if len(fits) == 4:
            raise KeyboardInterrupt
        return SpyingModel(spy.misled)

    monkeypatch.setattr(Spy, "fit", fit)
    arguments = replace(options, tune=5)
    with pytest.raises(KeyboardInterrupt):
        train.run(arguments)
    assert (tmp_path / "bundle.trials").exists()
    assert not Path(options.out).exists()
    result: Any = train.run(arguments)
    assert result["tuning"]["trials"] == 5
    # Five trials, one of them twice; the best again for its scores, and the model.
    assert len(fits) == 5 + 1 + 1 + 1
    assert fits[3] == fits[4]
    assert not (tmp_path / "bundle.trials").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": 1}, "--folds 1: must be from 2 to 100"),
        ({"folds": 101}, "--folds 101"),
        ({"label_delay": "a week"}, "--label-delay: 'a week' is not a duration"),
        ({"split": "stratified", "label_delay": "7d"}, "--label-delay: random rows"),
        ({"split": "stratified", "drop_known_cards": True}, "--drop-known-cards: random rows"),
        ({"schema": "ulb", "drop_known_cards": True}, "--drop-known-cards: schema ulb gives no"),
        ({"tune": 0}, "--tune 0: must be 1 or more"),
        ({"tune_budget": "5m"}, "--tune-budget 5m: only with --tune"),
        ({"tune_store": "trials"}, "--tune-store trials: only with --tune"),
        ({"tune": 2, "tune_budget": "soon"}, "--tune-budget: 'soon' is not a duration"),
        ({"tune": 2, "tune_store": "gs://a/b"}, "--tune-store gs://a/b: must be a local file"),
        ({"tune": 2, "out": "gs://bucket/model"}, "give a local --tune-store"),
        (
            {"tune": 2, "settings": ("misled=0.1", "unused=0.1")},
            "every setting that could be tuned is given by --set",
        ),
    ],
)
def test_a_usage_error_names_the_option(
    options: TrainOptions, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        train.run(replace(options, **change))
    assert "\n" not in str(caught.value)


def test_all_cards_known_leave_no_validation_rows(options: TrainOptions) -> None:
    table = hourly().set_column(1, "card", pa.array(["c1"] * 600))
    pq.write_table(table, options.files[0])
    with fails(Code.DIVISION_IMPOSSIBLE, "fold 1 .* cards"):
        train.run(replace(options, folds=3, drop_known_cards=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": 90}, "validation rows of fold 4 .* is genuine; .*or fewer --folds"),
        ({"folds": 2, "label_delay": "60d"}, "--folds 2: the rows"),
        ({"label_delay": "60d"}, "--label-delay: on 2024-01-21T00:00:00.* no label would be known"),
        ({"folds": 2, "valid_from": "2024-01-25T20:00:00"}, "validation rows of fold 1 .from 2024"),
        ({"tune": 2, "tune_store": "/proc/none/trials"}, "/proc"),
    ],
)
def test_data_that_cannot_be_divided_is_an_error_of_one_line(
    options: TrainOptions, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(FraudError, match=message) as caught:
        train.run(replace(options, **change))
    assert "\n" not in str(caught.value)
    assert not Path(options.out).exists()


def test_without_optuna_the_extra_is_named(
    options: TrainOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        FraudError, match=r"--tune: needs optuna; .* -m pip install 'beam-fraud\[tuning"
    ):
        train.run(replace(options, tune=2))


def test_the_command_line_accepts_all_options(
    options: TrainOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    call = f"train {options.files[0]} --schema {options.schema} --model spy --out {options.out}"
    requested = "--folds 2 --label-delay 12h --drop-known-cards --tune 2 --tune-budget 1m --json"
    assert main([*call.split(), *requested.split()]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert len(result["validation"]["folds"]) == 2
    assert result["tuning"]["trials"] == 2
    assert "trial 2 of 2" in printed.err

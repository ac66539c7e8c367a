"""Data frames, tables and files in memory give the results of the commands."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import beam_fraud as bf
from beam_fraud.cli.commands import evaluate, features, score, train
from beam_fraud.cli.options import EvaluateOptions, FeaturesOptions, ScoreOptions, TrainOptions
from beam_fraud.models.bundle import read_card
from beam_fraud.simulate.simulation import Simulation, simulate
from beam_fraud.sources.raw import POSITION

RULES = """
[[rule]]
name = "large"
when = "amount > 150"
decision = "review"
"""


@dataclass(frozen=True)
class Case:
    """Transactions in files and in memory, and a model of the earlier ones."""

    before_file: str
    today_file: str
    bundle_path: str
    before: pd.DataFrame
    today: pd.DataFrame
    model: bf.Bundle
    rules: str


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    directory = tmp_path_factory.mktemp("frames")
    rows = simulate(Simulation(days=50, accounts=60, merchants=60))
    cut = int(0.8 * len(rows))
    files = [str(directory / name) for name in ("before.parquet", "today.parquet")]
    for file, part in zip(files, (rows.slice(0, cut), rows.slice(cut)), strict=True):
        pq.write_table(part, file)
    rules = directory / "rules.toml"
    rules.write_text(RULES)
    bundle = str(directory / "hist_gradient_boosting")
    train.run(
        TrainOptions(
            files=(files[0],),
            schema="handbook",
            model="hist_gradient_boosting",
            out=bundle,
            settings=("trees=30",),
        )
    )
    before, today = (pd.read_parquet(file) for file in files)
    # An index of its own, as a data frame has after filtering.
    today.index = pd.Index(range(1000, 1000 + len(today)))
    model = bf.train(before, schema="handbook", settings={"trees": 30})
    return Case(*files, bundle, before, today, model, str(rules))


@pytest.fixture(autouse=True)
def _errors_of_warnings() -> Iterator[None]:
    """Turn unexpected warnings into failures."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def by_id(rows: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["transaction_id"]: row for row in rows.to_pylist()}


def scored_by_command(case: Case, out: Path) -> pa.Table:
    score.run(
        ScoreOptions(
            files=(case.today_file,),
            history=(case.before_file,),
            model=case.bundle_path,
            rules=case.rules,
            out=str(out),
        )
    )
    return pq.read_table(out / "scores")


def test_train_makes_the_model_of_the_command(case: Case, tmp_path: Path) -> None:
    saved = bf.load_bundle(case.bundle_path)
    manifest, theirs = case.model.manifest, saved.manifest
    assert manifest.features == theirs.features
    assert manifest.thresholds == theirs.thresholds
    assert manifest.metrics == theirs.metrics
    assert manifest.trained_on == theirs.trained_on
    assert "a DataFrame of" in read_card(case.model)


def test_a_saved_bundle_is_the_same_model(case: Case, tmp_path: Path) -> None:
    saved = case.model.save(tmp_path / "model")
    again = bf.load_bundle(tmp_path / "model")
    assert saved == again
    assert again.model_id == case.model.model_id
    copied = again.save(tmp_path / "copy")
    assert copied.model_id == again.model_id
    rows = case.today.head(50)
    first, second = (
        bf.score(rows, bundle, history=case.before) for bundle in (case.model, tmp_path / "copy")
    )
    assert first["score"].equals(second["score"])


def test_scores_are_those_of_the_command_bit_for_bit(case: Case, tmp_path: Path) -> None:
    command = by_id(scored_by_command(case, tmp_path / "out"))
    shuffled = case.today.sample(frac=1, random_state=0)
    frame = bf.score(shuffled, case.bundle_path, history=case.before, rules=case.rules)
    assert frame.index.equals(shuffled.index)
    assert list(frame["transaction_id"]) == list(shuffled["TRANSACTION_ID"].astype(str))
    table = bf.score(
        pa.Table.from_pandas(shuffled), case.bundle_path, history=case.before_file, rules=case.rules
    )
    assert by_id(table) == command
    assert any(row["flagged"] and row["reasons"] for row in command.values())
    assert frame["score"].tolist() == table.column("score").to_pylist()


def test_files_give_a_table_in_their_order(case: Case) -> None:
    files = [Path(case.today_file)]
    table = bf.score(files, case.model, history=[case.before_file])
    assert table.column("transaction_id").to_pylist() == list(
        case.today["TRANSACTION_ID"].astype(str)
    )
    frame = bf.score(case.today, case.model, history=case.before)
    assert table.column("score").to_pylist() == frame["score"].tolist()


def test_a_bad_row_is_an_error_or_kept(case: Case) -> None:
    rows = case.today.astype({"TX_AMOUNT": object})
    bad = rows.index[7]
    rows.loc[bad, "TX_AMOUNT"] = "a lot"
    with pytest.raises(bf.FraudError, match=r"1 of [0-9,]+ rows .*TX_AMOUNT.*on_invalid='keep'"):
        bf.score(rows, case.model, history=case.before)
    with pytest.warns(UserWarning, match="1 of .* rows are no transactions"):
        checked = bf.score(rows, case.model, history=case.before, on_invalid="keep")
    assert list(checked.dead_letters.index) == [bad]
    assert checked.dead_letters.loc[bad, "reason"] == "wrong_type"
    payload = json.loads(checked.dead_letters.loc[bad, "payload"])
    assert payload["TX_AMOUNT"] == "a lot"
    assert len(checked.rows) + len(checked.dead_letters) + checked.duplicates == len(rows)
    whole = bf.score(case.today, case.model, history=case.before)
    others = [row for row in rows.index if row != bad]
    same_card = case.today["CUSTOMER_ID"] == case.today.loc[bad, "CUSTOMER_ID"]
    same_shop = case.today["TERMINAL_ID"] == case.today.loc[bad, "TERMINAL_ID"]
    elsewhere = [row for row in others if not (same_card[row] or same_shop[row])]
    assert checked.rows.loc[elsewhere, "score"].equals(whole.loc[elsewhere, "score"])


def test_a_repeated_id_is_left_out_with_a_warning(case: Case) -> None:
    rows = pd.concat([case.today, case.today.head(3)])
    with pytest.warns(UserWarning, match="3 rows repeat the transaction_id"):
        scored = bf.score(rows, case.model, history=case.before)
    assert scored.index.equals(case.today.index)


def test_windows_without_history_are_warned_of(case: Case) -> None:
    with pytest.warns(UserWarning, match="there are no earlier rows"):
        bf.score(case.today, case.model)


def test_no_rows_give_no_rows(case: Case) -> None:
    none = bf.score(case.today.head(0), case.model, history=case.before)
    assert len(none) == 0
    assert list(none.columns)[:2] == ["transaction_id", "event_time"]


def test_features_are_those_of_the_command(case: Case, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    features.run(
        FeaturesOptions(
            files=(case.today_file,), history=(case.before_file,), schema="handbook", out=out
        )
    )
    command = by_id(pq.read_table(f"{out}/features"))
    shuffled = case.today.sample(frac=1, random_state=1)
    frame = bf.features(shuffled, "handbook", history=case.before)
    assert frame.index.equals(shuffled.index)
    expected = pd.DataFrame([command[id] for id in frame["transaction_id"]], index=frame.index)
    pd.testing.assert_frame_equal(frame, expected, check_exact=True)


def test_figures_are_those_of_the_command(case: Case) -> None:
    command = evaluate.run(
        EvaluateOptions(
            files=(case.today_file,), models=(case.bundle_path,), history=(case.before_file,)
        )
    )
    figures = bf.evaluate(case.today, case.bundle_path, history=case.before)
    message = figures.metrics.to_dict()
    assert message == {name: command[name] for name in message}
    assert list(figures.warnings) == command["warnings"]
    intervals = command["intervals"]
    assert isinstance(intervals, dict)
    assert figures.intervals.keys() == intervals.keys()


def test_exploring_counts_invalid_rows(case: Case) -> None:
    rows = case.before.astype({"TX_AMOUNT": object})
    rows.iloc[0, rows.columns.get_loc("TX_AMOUNT")] = None
    with pytest.warns(UserWarning, match="1 of .* rows left out"):
        result = bf.explore(rows, schema="handbook")
    assert result.rows_in == len(rows)
    assert result.dead_reasons == {"missing_amount": 1}
    assert result.balance.frauds == int(case.before["TX_FRAUD"].sum()) - int(
        rows.iloc[0]["TX_FRAUD"]
    )


def test_training_warns_of_rows_left_out(case: Case) -> None:
    rows = case.before.astype({"TX_FRAUD": object})
    rows.iloc[0, rows.columns.get_loc("TX_FRAUD")] = "perhaps"
    few, left_out = "frauds only: the threshold", "1 of .* rows left out"
    with pytest.warns(UserWarning, match=few), pytest.warns(UserWarning, match=left_out):
        bf.train(rows, schema="handbook", model="logistic")


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda c: bf.score(c.today.drop(columns="TX_AMOUNT"), c.model), "'TX_AMOUNT'"),
        (lambda c: bf.score(c.today.astype({"CUSTOMER_ID": bool}), c.model), "is bool"),
        (lambda c: bf.score(c.today, c.model, on_invalid="ignore"), "on_invalid"),
        (lambda c: bf.score(c.today, c.model, reasons=-1), "reasons=-1"),
        (lambda c: bf.evaluate(c.today, c.model, threshold=2.0), "threshold=2"),
        (lambda c: bf.train(c.before, schema="handbook", model="forrest"), "did you mean forest"),
        (lambda c: bf.train(c.before, schema="handbook", valid_from="soon"), "valid_from='soon'"),
        (lambda c: bf.score(c.today, "no/bundle"), "not a model bundle"),
        (lambda c: bf.features(c.today, "hanbook"), "neither a preset"),
        (lambda c: bf.explore(c.before.head(0), schema="handbook"), "no transaction"),
    ],
)
def test_errors_name_the_mistake_in_one_line(case: Case, wrong: Any, error: str) -> None:
    with pytest.raises(bf.FraudError) as raised:
        wrong(case)
    assert error in str(raised.value)
    assert "\n" not in str(raised.value)


def test_rows_of_a_table_are_identified_by_position(case: Case) -> None:
    schema = bf.Schema("plain", {"event_time": "TX_DATETIME", "amount": "TX_AMOUNT"})
    result = bf.features(case.today.head(3), schema)
    assert list(result["transaction_id"]) == ["rows:0", "rows:1", "rows:2"]
    assert POSITION not in result.columns

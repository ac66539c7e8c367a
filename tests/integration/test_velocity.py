"""Velocity features of the commands: `features`, and `--history` of every command."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import evaluate, features, score, train
from beam_fraud.cli.options import EvaluateOptions, FeaturesOptions, ScoreOptions, TrainOptions
from beam_fraud.errors import UsageError
from beam_fraud.features.dataset import load_dataset
from beam_fraud.features.matrix import FeatureSet, feature_matrix
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.storage.urls import Place

CUT = datetime(2024, 1, 21)
THREADS = ("--direct_running_mode=multi_threading",)


@pytest.fixture
def cut(month: pa.Table, tmp_path: Path) -> tuple[Path, Path, Path]:
    """All transactions, those before `CUT` and those from `CUT` on."""
    paths = (tmp_path / "all.parquet", tmp_path / "before.parquet", tmp_path / "after.parquet")
    after = pc.greater_equal(month["TX_DATETIME"], pa.scalar(CUT, pa.timestamp("us")))
    for path, table in zip(
        paths, (month, month.filter(pc.invert(after)), month.filter(after)), strict=True
    ):
        pq.write_table(table, path)
    return paths


def compute(path: Path, out: Path, **options: Any) -> pa.Table:
    features.run(FeaturesOptions(files=(str(path),), schema="handbook", out=str(out), **options))
    return pq.read_table(out / "features").sort_by("transaction_id")


def bits(table: pa.Table) -> list[bytes]:
    return [column.to_numpy().tobytes() for column in table.drop_columns("transaction_id").columns]


def test_features_equal_those_of_training(cut: tuple[Path, Path, Path], tmp_path: Path) -> None:
    table = compute(cut[0], tmp_path / "out", workers=2, beam_args=THREADS, block_rows=700)
    trained_on = load_dataset([Place.of(cut[0])], HANDBOOK).transactions.sort_by("transaction_id")
    assert table["transaction_id"].equals(trained_on["transaction_id"])
    assert table.column_names == ["transaction_id", *FeatureSet(HANDBOOK).names]
    matrix = feature_matrix(trained_on, FeatureSet(HANDBOOK))
    assert bits(table) == [matrix[:, column].tobytes() for column in range(15)]
    risks = table["merchant_risk_7d_delay_7d"].to_numpy()
    assert 0 < np.count_nonzero(risks) < len(risks)


def test_history_fills_the_windows_of_the_first_day(
    cut: tuple[Path, Path, Path], bundle: Path, tmp_path: Path
) -> None:
    whole, before, after = cut
    expected = compute(whole, tmp_path / "whole")
    result = compute(after, tmp_path / "after", history=(str(before),))
    cold = compute(after, tmp_path / "cold")
    assert 0 < result.num_rows < expected.num_rows
    expected = expected.filter(pc.is_in(expected["transaction_id"], result["transaction_id"]))
    assert bits(result) == bits(expected)
    assert bits(cold) != bits(expected)
    files, history = (str(after),), (str(before),)
    out = tmp_path / "scored"
    options = ScoreOptions(files=files, history=history, model=str(bundle), out=str(out))
    summary = score.run(options)
    assert summary["rows_scored"] == summary["rows_in"] == result.num_rows
    assert summary["history_rows"] == pq.read_metadata(before).num_rows
    measured = evaluate.run(EvaluateOptions(files=files, models=(str(bundle),), history=history))
    scored = pq.read_table(out / "scores")
    assert measured["rows"] == result.num_rows
    flagged = measured["confusion"]["tp"] + measured["confusion"]["fp"]  # type: ignore[index]
    assert flagged == scored["flagged"].to_numpy().sum() == summary["rows_flagged"]


def test_training_treats_rows_before_from_as_history(
    cut: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    whole, before, after = cut
    since = CUT.isoformat()
    once = TrainOptions(
        files=(str(whole),),
        schema="handbook",
        model="forest",
        settings=("trees=20",),
        out=str(tmp_path / "m"),
        since=since,
    )
    twice = TrainOptions(
        files=(str(after),),
        schema="handbook",
        model="forest",
        settings=("trees=20",),
        out=str(tmp_path / "n"),
        history=(str(before),),
    )
    one, other = train.run(once), train.run(twice)
    assert one["metrics"] == other["metrics"]
    assert one["rows_train"] == other["rows_train"]
    models = [(tmp_path / name / "model.joblib").read_bytes() for name in "mn"]
    assert models[0] == models[1]


def test_a_file_is_not_its_own_history(cut: tuple[Path, Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"all\.parquet: is among the files as well"):
        compute(cut[0], tmp_path / "out", history=(str(tmp_path / "*.parquet"),))
    assert not (tmp_path / "out").exists()


def test_scoring_does_not_need_labels(
    month: pa.Table, cut: tuple[Path, Path, Path], bundle: Path, tmp_path: Path
) -> None:
    unlabelled = month.drop_columns(["TX_FRAUD", "TX_FRAUD_SCENARIO"])
    broken = month.set_column(
        month.schema.get_field_index("TX_FRAUD"), "TX_FRAUD", pa.array(["?"] * month.num_rows)
    )
    result = []
    for number, table in enumerate((unlabelled, broken)):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(table, path)
        result.append(compute(path, tmp_path / f"out{number}"))
        assert result[-1].num_rows == month.num_rows
        assert not result[-1]["merchant_risk_7d_delay_7d"].to_numpy().any()
    assert bits(result[0]) == bits(result[1])

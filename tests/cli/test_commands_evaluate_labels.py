"""Labels of a file train and evaluate; labels of a database estimate the figures of all traffic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import evaluate, labels, score, train
from beam_fraud.cli.options import (
    EvaluateOptions,
    ExportLabelsOptions,
    ImportLabelsOptions,
    ScoreOptions,
    TrainOptions,
)
from beam_fraud.errors import Code, UsageError
from tests.cli.test_commands_score import bundle
from tests.cli.test_commands_train import SCHEMA, table
from tests.failing import fails

#: The model flags everything; rules approve what is small.
RULES = """
[[rule]]
name = "small"
when = "amount < 80"
decision = "approve"
"""
ROWS = 4_000


@pytest.fixture
def traffic(tmp_path: Path) -> tuple[EvaluateOptions, float]:
    """A scored day whose audited and flagged rows are labelled; and the true recall."""
    file, rules, url = tmp_path / "day.csv", tmp_path / "r.toml", f"sqlite:///{tmp_path}/f.db"
    random = np.random.default_rng(1)
    amounts = random.integers(0, 100, ROWS)
    # Half of what is large is fraud, and a tenth of the rest.
    fraud = random.random(ROWS) < np.where(amounts >= 80, 0.5, 0.1)
    seconds = [
        f"2024-01-01T{row // 3600:02}:{row // 60 % 60:02}:{row % 60:02}Z" for row in range(ROWS)
    ]
    names = [f"x{row}" for row in range(ROWS)]
    pcsv.write_csv(pa.table({"id": names, "t": seconds, "a": amounts}), file)
    rules.write_text(RULES)
    summary = score.run(
        ScoreOptions(
            files=(str(file),),
            model=bundle(tmp_path / "model"),
            rules=str(rules),
            out=str(tmp_path / "out"),
            sink=url,
            audit_share="20%",
        )
    )
    assert summary["rows_audited"]
    decided = {"transaction_id": names, "label": fraud, "labelled_at": ["2024-02-01"] * ROWS}
    pcsv.write_csv(pa.table(decided), tmp_path / "labels.csv")
    imported = labels.run_import(
        ImportLabelsOptions(files=(str(tmp_path / "labels.csv"),), database=url)
    )
    # Rows that were not shown to people have no time here, and are left out.
    assert imported["dead_reasons"]
    recall = float((fraud & (amounts >= 80)).sum() / fraud.sum())
    return EvaluateOptions(from_labels=True, database=url, resamples=100), recall


def test_recall_is_that_of_all_traffic(traffic: tuple[EvaluateOptions, float]) -> None:
    options, recall = traffic
    result = evaluate.run(options)
    (model,) = result["traffic"]  # type: ignore[misc]
    estimated: dict[str, Any] = model["recall"]
    assert estimated["interval"]["low"] <= recall <= estimated["interval"]["high"]
    assert model["unweighted_recall"] > estimated["interval"]["high"]
    assert model["precision"]["value"] == pytest.approx(0.5, abs=0.06)
    assert model["transactions"] == pytest.approx(ROWS, rel=0.1)
    assert model["warnings"] == []
    shown = evaluate.render(result)
    assert f"{model['audited']:,} audited" in shown
    assert f"{estimated['value']:.3f}" in shown
    assert "recall would look like" in shown
    named = evaluate.run(replace(options, models=(model["model_id"],)))
    assert named["traffic"] == result["traffic"]


def test_a_small_audit_is_warned_of(
    traffic: tuple[EvaluateOptions, float], caplog: pytest.LogCaptureFixture
) -> None:
    options, _ = traffic
    result = evaluate.run(replace(options, since="2024-01-01T00:00", until="2024-01-01T00:05"))
    (model,) = result["traffic"]  # type: ignore[misc]
    assert any("the audit is small" in warning for warning in model["warnings"])
    assert "the audit is small" in caplog.text


def test_what_does_not_go_together_is_refused(
    traffic: tuple[EvaluateOptions, float], tmp_path: Path
) -> None:
    options, _ = traffic
    for code, match, changed in (
        (Code.OPTION_MISSING, "--database", {"database": None}),
        (Code.OPTION_CONFLICT, "FILE", {"files": ("day.csv",)}),
        (
            Code.OPTION_CONFLICT,
            "--database",
            {"from_labels": False, "files": ("x",), "models": ("y",)},
        ),
        (Code.OPTION_MISSING, "FILE", {"from_labels": False, "database": None}),
    ):
        with fails(code, match, UsageError):
            evaluate.run(replace(options, **changed))  # type: ignore[arg-type]
    with fails(Code.INPUT_EMPTY, "no transaction of model 'm@1'"):
        evaluate.run(replace(options, models=("m@1",)))
    with fails(Code.INPUT_EMPTY, "no transaction was flagged or audited"):
        evaluate.run(replace(options, since="2025-01-01"))
    with fails(Code.PLACE_EMPTY, "empty.db: is not there"):
        evaluate.run(replace(options, database=f"sqlite:///{tmp_path}/empty.db"))
    assert not (tmp_path / "empty.db").exists()


def test_exported_labels_train_and_evaluate(tmp_path: Path) -> None:
    rows = table()
    (tmp_path / "shop.toml").write_text(SCHEMA)
    pq.write_table(rows, tmp_path / "labelled.parquet")
    pq.write_table(rows.drop_columns(["fraud"]), tmp_path / "bare.parquet")
    columns = {"id": "transaction_id", "fraud": "label", "t": "event_time"}
    known = rows.select(list(columns)).rename_columns(list(columns.values()))
    # Only frauds are reported; the rest counts as genuine.
    pq.write_table(known.filter(np.asarray(known["label"]) == 1), tmp_path / "frauds.parquet")
    url = f"sqlite:///{tmp_path}/labels.db"
    labels.run_import(
        ImportLabelsOptions(
            files=(str(tmp_path / "frauds.parquet"),), database=url, labelled_at="2024-12-31"
        )
    )
    exported = str(tmp_path / "exported.parquet")
    labels.run_export(ExportLabelsOptions(database=url, out=exported))
    options = TrainOptions(
        files=(str(tmp_path / "labelled.parquet"),),
        schema=str(tmp_path / "shop.toml"),
        model="logistic",
        out=str(tmp_path / "expected"),
    )
    expected = train.run(options)
    bare = (str(tmp_path / "bare.parquet"),)
    trained = train.run(replace(options, files=bare, labels=exported, out=str(tmp_path / "bundle")))
    assert trained["metrics"] == expected["metrics"]
    measured = EvaluateOptions(files=options.files, models=(str(tmp_path / "expected"),))
    by_labels = replace(measured, files=bare, labels=exported)
    assert evaluate.run(by_labels) == evaluate.run(measured)

"""The whole graph of `beam-fraud score`, on the local runner and partly on Prism.

`test_every_runner.py` compares rows, dead letters, repeated ids, sinks and alerts of all runners.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import batch, score
from beam_fraud.cli.options import ScoreOptions
from beam_fraud.errors import FraudError, UsageError
from beam_fraud.features.dataset import load_dataset
from beam_fraud.features.matrix import FeatureSet, feature_matrix
from beam_fraud.models.bundle import load_model, open_bundle
from beam_fraud.models.predict import predict_scores
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.schema.stages import DEAD_LETTER, SCORED
from beam_fraud.storage.urls import Place

THREADS = ("--direct_running_mode=multi_threading",)


def rows(out: Path, branch: str = "scores", by: str = "transaction_id") -> pa.Table:
    return pq.read_table(out / branch).sort_by(by)


def run(files: object, bundle: Path, out: Path, **options: Any) -> dict[str, Any]:
    value = files if isinstance(files, list | tuple) else [files]
    files = tuple(str(file) for file in value)
    return score.run(ScoreOptions(files=files, model=str(bundle), out=str(out), **options))


@pytest.fixture
def parquet(month: pa.Table, tmp_path: Path) -> Path:
    path = tmp_path / "month.parquet"
    pq.write_table(month, path, row_group_size=2_000)
    return path


def test_every_row_gets_the_score_of_the_model_outside_the_pipeline(
    parquet: Path, bundle: Path, tmp_path: Path, month: pa.Table
) -> None:
    summary = run(parquet, bundle, tmp_path / "out")
    opened = open_bundle(str(bundle))
    table = load_dataset([Place.of(parquet)], opened.schema).transactions.sort_by("transaction_id")
    expected = predict_scores(load_model(opened), feature_matrix(table, opened.features))
    assert pq.read_schema(next((tmp_path / "out/scores").iterdir())).equals(SCORED)
    scored = rows(tmp_path / "out")
    assert scored["transaction_id"].to_pylist() == table["transaction_id"].to_pylist()
    assert scored["score"].to_numpy().tolist() == expected.tolist()
    assert scored["flagged"].to_pylist() == (expected >= opened.thresholds.review).tolist()
    assert set(pc.unique(scored["model_id"]).to_pylist()) == {opened.model_id}
    assert summary["rows_in"] == summary["rows_scored"] == month.num_rows
    assert summary["rows_flagged"] == int((expected >= opened.thresholds.review).sum()) > 0
    assert json.loads((tmp_path / "out/summary.json").read_text()) == summary


def test_the_rows_do_not_depend_on_blocks_format_and_workers(
    parquet: Path, bundle: Path, tmp_path: Path, month: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyarrow.csv.write_csv(month, tmp_path / "month.csv")
    month.to_pandas().to_json(tmp_path / "month.jsonl", orient="records", lines=True)
    run(parquet, bundle, tmp_path / "once")
    expected = rows(tmp_path / "once")
    run(parquet, bundle, tmp_path / "small", block_rows=1_000)
    run(tmp_path / "month.csv", bundle, tmp_path / "csv", block_rows=3_000)
    run(tmp_path / "month.jsonl", bundle, tmp_path / "jsonl")
    # Small segments, so that both workers get parts of the one file.
    monkeypatch.setattr(batch, "_MIN_SEGMENT_BYTES", 10_000)
    run(parquet, bundle, tmp_path / "threads", workers=2, beam_args=THREADS)
    run(tmp_path / "month.csv", bundle, tmp_path / "parts", workers=2, beam_args=THREADS)
    for out in ("small", "csv", "jsonl", "threads", "parts"):
        assert rows(tmp_path / out).equals(expected), out


# `test_every_runner.py` has processes in every run, over another model and a database.
@pytest.mark.soak
def test_several_processes_give_the_same_rows(
    parquet: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(parquet, bundle, tmp_path / "once")
    monkeypatch.setattr(batch, "_MIN_SEGMENT_BYTES", 10_000)
    summary = run(parquet, bundle, tmp_path / "twice", workers=2)
    assert rows(tmp_path / "twice").equals(rows(tmp_path / "once"))
    assert summary["rows_scored"] == rows(tmp_path / "once").num_rows


def with_repeats(month: pa.Table) -> pa.Table:
    """Rows 0 to 999, then 100 of them again with another amount, then the others."""
    again = month.slice(500, 100)
    again = again.set_column(4, month.schema.field(4), pc.add(again["TX_AMOUNT"], 1.0))
    return pa.concat_tables([month.slice(0, 1000), again, month.slice(1000)])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_repeated_id_is_scored_once_and_counted(
    month: pa.Table,
    bundle: Path,
    tmp_path: Path,
    workers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "_MIN_SEGMENT_BYTES", 10_000)
    path = tmp_path / "month.parquet"
    pq.write_table(with_repeats(month), path, row_group_size=700)
    summary = run(
        path, bundle, tmp_path / "out", workers=workers, beam_args=THREADS, block_rows=300
    )
    scored = rows(tmp_path / "out")
    assert summary["rows_duplicate"] == 100
    assert scored.num_rows == month.num_rows
    amounts = dict(
        zip(month["TRANSACTION_ID"].to_pylist(), month["TX_AMOUNT"].to_pylist(), strict=True)
    )
    result = zip(scored["transaction_id"].to_pylist(), scored["amount"].to_pylist(), strict=True)
    assert all(amounts[int(key)] == amount for key, amount in result), "the first position wins"


def test_ids_are_looked_for_in_one_file_or_in_the_run(
    month: pa.Table, bundle: Path, tmp_path: Path
) -> None:
    pq.write_table(month.slice(0, 1000), tmp_path / "a.parquet")
    pq.write_table(month.slice(900, 1000), tmp_path / "b.parquet")
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    apart = run(files, bundle, tmp_path / "apart")
    across = run(files, bundle, tmp_path / "across", dedupe="run")
    assert (apart["rows_scored"], apart["rows_duplicate"]) == (2000, 0)
    assert (across["rows_scored"], across["rows_duplicate"]) == (1900, 100)


def test_bad_rows_are_dead_letters_and_cost_no_other_row(
    month: pa.Table, bundle: Path, tmp_path: Path
) -> None:
    pyarrow.csv.write_csv(month.slice(0, 50), tmp_path / "good.csv")
    lines = (tmp_path / "good.csv").read_text().splitlines()
    lines.insert(10, "not,enough")
    lines.insert(20, '990001,"2024-01-01 00:00:00",1,2,much,0,0')
    lines.insert(30, "990002,never,1,2,5.0,0,0")
    (tmp_path / "bad.csv").write_text("\n".join(lines) + "\n")
    summary = run(tmp_path / "bad.csv", bundle, tmp_path / "out")
    dead = rows(tmp_path / "out", "dead_letters", by="position")
    assert dead.schema.equals(DEAD_LETTER)
    assert summary["rows_in"] == 53
    assert summary["rows_scored"] == 50
    assert summary["rows_dead"] == 3
    assert summary["dead_reasons"] == {
        "wrong_column_count": 1,
        "wrong_type": 1,
        "unparseable_time": 1,
    }
    assert dead["position"].to_pylist() == [9, 19, 29]
    assert dead["reason"].to_pylist() == ["wrong_column_count", "wrong_type", "unparseable_time"]
    assert dead["payload"].to_pylist()[0] == b"not,enough"
    assert set(dead["source"].to_pylist()) == {"bad.csv"}


def test_flagged_rows_and_alerts_are_written_once_by_repeated_runs(
    parquet: Path, bundle: Path, tmp_path: Path
) -> None:
    places: dict[str, Any] = {
        "sink": f"sqlite:///{tmp_path}/flagged.db",
        "alerts": (f"file:{tmp_path}/alerts.jsonl",),
    }
    first = run(parquet, bundle, tmp_path / "out", **places)
    second = run(parquet, bundle, tmp_path / "out", **places)
    flagged = first["rows_flagged"]
    none = {"failed": 0, "snoozed": 0, "digested": 0}
    assert first["alerts"] == {"sent": flagged, "already_sent": 0, **none}
    assert second["alerts"] == {"sent": 0, "already_sent": flagged, **none}
    assert len((tmp_path / "alerts.jsonl").read_text().splitlines()) == flagged
    with sqlite3.connect(tmp_path / "flagged.db") as database:
        stored = database.execute("select count(*), min(score) from flagged_transactions")
        count, lowest = stored.fetchone()
    assert count == flagged
    assert lowest >= open_bundle(str(bundle)).thresholds.review


def test_alerts_without_a_database_wait_in_the_outbox_beside_the_scores(
    parquet: Path, bundle: Path, tmp_path: Path
) -> None:
    summary = run(
        parquet,
        bundle,
        tmp_path / "out",
        sink=f"parquet:{tmp_path}/flagged",
        alerts=(f"file:{tmp_path}/alerts.jsonl",),
    )
    assert summary["alerts"]["sent"] == summary["rows_flagged"]
    assert (tmp_path / "out/outbox.db").exists()
    assert pq.read_table(tmp_path / "flagged").num_rows == summary["rows_flagged"]


def test_a_failed_run_leaves_the_earlier_outputs(
    month: pa.Table, parquet: Path, bundle: Path, tmp_path: Path, beam_args: tuple[str, ...]
) -> None:
    run(parquet, bundle, tmp_path / "out", sink=f"parquet:{tmp_path}/flagged")
    before = rows(tmp_path / "out"), pq.read_table(tmp_path / "flagged")
    data = bytearray(parquet.read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    (tmp_path / "damaged.parquet").write_bytes(data)
    with pytest.raises(Exception, match=r"damaged\.parquet: is damaged"):
        run(
            [parquet, tmp_path / "damaged.parquet"],
            bundle,
            tmp_path / "out",
            sink=f"parquet:{tmp_path}/flagged",
            beam_args=beam_args,
        )
    assert rows(tmp_path / "out").equals(before[0])
    assert pq.read_table(tmp_path / "flagged").equals(before[1])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "dead_letters",
        "scores",
        "summary.json",
    ]


def test_a_run_replaces_the_outputs_of_an_earlier_run(
    month: pa.Table, parquet: Path, bundle: Path, tmp_path: Path, beam_args: tuple[str, ...]
) -> None:
    run(parquet, bundle, tmp_path / "out")
    limited = run(parquet, bundle, tmp_path / "out", limit=123, beam_args=beam_args)
    assert limited["rows_in"] == 123
    scored = pq.read_table(tmp_path / "out/scores")
    ids = [str(key) for key in month["TRANSACTION_ID"].to_pylist()[:123]]
    assert sorted(scored["transaction_id"].to_pylist()) == sorted(ids)


def test_a_dry_run_checks_and_writes_nothing(parquet: Path, bundle: Path, tmp_path: Path) -> None:
    sink = f"sqlite:///{tmp_path}/new.db"
    before = sorted(tmp_path.iterdir())
    for places in ({"sink": sink}, {"alerts": ("console:", f"file:{tmp_path}/a.jsonl")}):
        result = run(parquet, bundle, tmp_path / "out", dry_run=True, **places)
    assert sorted(tmp_path.iterdir()) == before
    assert result["dry_run"] is True
    assert result["features"] == list(FeatureSet(HANDBOOK).names)
    assert len(result["features"]) == 15


def test_a_sink_among_the_scores_is_refused_before_anything_is_written(
    parquet: Path, bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="keeps scores there; give another place"):
        run(parquet, bundle, tmp_path / "out", sink=f"parquet:{tmp_path}/out/scores")
    assert not (tmp_path / "out").exists()


def test_no_transactions_give_readable_outputs(
    month: pa.Table, bundle: Path, tmp_path: Path, beam_args: tuple[str, ...]
) -> None:
    pq.write_table(month.slice(0, 0), tmp_path / "none.parquet")
    summary = run(tmp_path / "none.parquet", bundle, tmp_path / "out", beam_args=beam_args)
    assert summary["rows_in"] == 0
    assert pq.read_table(tmp_path / "out/scores").num_rows == 0
    assert pq.read_table(tmp_path / "out/dead_letters").num_rows == 0


def test_invalid_calls_are_refused_before_anything_is_scored(
    parquet: Path, bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(FraudError, match="the feature 'is_weekend', which the schema ulb doesn't"):
        run(parquet, bundle, tmp_path / "out", schema="ulb")
    with pytest.raises(UsageError, match="redis"):
        run(parquet, bundle, tmp_path / "out", sink="redis://x")
    with pytest.raises(UsageError, match="no file system knows nowhere://"):
        run(parquet, bundle, "nowhere://bucket/out")  # type: ignore[arg-type]
    with pytest.raises(FraudError, match="no such file"):
        run(tmp_path / "absent.parquet", bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()

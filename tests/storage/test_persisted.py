"""Streams, databases and directories of earlier versions continue to work."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli import main
from beam_fraud.models.bundle import open_bundle
from beam_fraud.models.drift import counts_of
from beam_fraud.monitoring.drift.counts import counted
from beam_fraud.operations.drift.archive import count_archive
from beam_fraud.operations.drift.places import count_places
from beam_fraud.state.drift import DRIFT, DriftShard
from beam_fraud.storage.checkpoint import recorded_deltas
from beam_fraud.storage.stream_outputs import ServerOutputs
from beam_fraud.storage.urls import Place
from tests.persisted.sets import SETS, unpack

ANY_SET = pytest.mark.parametrize("kept", [pytest.param(s, id=s.name) for s in SETS])
DATABASE = "sqlite:///flagged.db"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter the working directory to which the paths of a set are relative."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, object]:
    """Run a command; return its JSON."""
    code = main([*args, "--json"])
    message = capsys.readouterr()
    assert code == 0, message.err
    result: dict[str, object] = json.loads(message.out)
    return result


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def same_rows(found: pa.Table, expected: pa.Table) -> bool:
    """Compare the columns of the version that wrote the expected rows."""
    found = found.select(expected.column_names)
    by = [("transaction_id", "ascending")]
    return bool(found.sort_by(by).equals(expected.sort_by(by)))


@ANY_SET
def test_a_stream_resumes_as_if_it_had_never_stopped(
    kept: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unpack(kept / "stream.tar.xz", here)
    before = pq.read_table("out/scores").num_rows
    for file in Path("later").iterdir():
        file.rename(Path("inbox") / file.name)
    call = (kept / "commands.txt").read_text().split("--watch inbox")[1].splitlines()[0].split()
    summary = run(capsys, "stream", "--model", "model", "--watch", "inbox", *call)
    # It has not read the first files or its history again.
    assert "history_rows" not in summary
    expected = pq.read_table("expected-scores.parquet")
    assert summary["rows_scored"] == expected.num_rows - before
    # 30 are of the files before, 20 of each other.
    assert summary["rows_duplicate"] == 50
    assert same_rows(pq.read_table("out/scores"), expected)
    dead = pq.read_table("out/dead_letters").sort_by("source")
    assert dead.equals(pq.read_table("expected-dead_letters.parquet").sort_by("source"))
    # Of each row the reasons hold the values of its features.
    of_then = rows(
        here / "expected.db", "SELECT name FROM pragma_table_info('flagged_transactions')"
    )
    columns = ", ".join(str(name) for (name,) in of_then)
    flagged = f"SELECT {columns} FROM flagged_transactions ORDER BY transaction_id"
    assert rows(here / "flagged.db", flagged) == rows(here / "expected.db", flagged)
    assert len(rows(here / "flagged.db", flagged)) == expected.num_rows


def test_a_stream_by_currency_resumes_and_a_bundle_has_its_rates(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (kept,) = [s for s in SETS if (s / "currencies.tar.xz").exists()]
    unpack(kept / "currencies.tar.xz", here)
    history = ("--history", "history.parquet")
    converted = ("--model", "converted", *history, "--out", "batch")
    run(capsys, "score", "inbox", "later", *converted)
    assert same_rows(pq.read_table("batch/scores"), pq.read_table("expected-converted.parquet"))
    separate = ("--model", "separate", *history, "--out", "separately")
    run(capsys, "score", "inbox", "later", *separate)
    assert same_rows(pq.read_table("separately/scores"), pq.read_table("expected-separate.parquet"))
    for file in Path("later").iterdir():
        file.rename(Path("inbox") / file.name)
    watching = ("--watch", "inbox", "--out", "out", *history, "--until-idle", "0.5")
    summary = run(capsys, "stream", "--model", "separate", *watching)
    assert "history_rows" not in summary
    assert same_rows(pq.read_table("out/scores"), pq.read_table("expected-separate.parquet"))


def test_counts_of_a_monitor_go_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (kept,) = [s for s in SETS if (s / "monitor.tar.xz").exists()]
    unpack(kept / "monitor.tar.xz", here)
    bundle = open_bundle("model")
    call = (kept / "commands.txt").read_text().split("--out out --until-idle 0.5 ")[-1]
    left = count_places([Place.parse("out/monitor")], bundle)
    assert int(left.summary.of("decision").sum()) == 150
    assert "an earlier version counted" in left.notes[-1]
    Path("later/b.csv").rename("inbox/b.csv")
    options = ("--watch", "inbox", "--out", "out", "--until-idle", "0.5")
    options = (*options, *call.splitlines()[0].split())
    assert run(capsys, "stream", "--model", "model", *options)["rows_scored"] == 150
    for place, letters in (("out", 2), ("state", 1)):
        archive = count_archive(Place.parse(place), bundle)
        live = count_places([Place.parse(f"{place}/monitor")], bundle)
        assert sum(live.dead_letters.values()) == letters
        assert live.dead_letters == archive.dead_letters
        assert live.summary.layout == archive.summary.layout
        assert live.summary.days.tolist() == archive.summary.days.tolist()
        assert np.array_equal(live.summary.counts, archive.summary.counts)
        # Scores by decision are counted from the present version on, and need whole days.
        there = archive.by_score.summary.days > left.summary.days[-1]
        assert there.any() == (place == "out")
        by_score = live.by_score.summary
        assert by_score.days.tolist() == archive.by_score.summary.days[there].tolist()
        assert np.array_equal(by_score.counts, archive.by_score.summary.counts[there])
    # What a server has folded.
    deltas = recorded_deltas(ServerOutputs(Path("state")).checkpoint, DRIFT, 0)
    DriftShard(None).restore(deltas)
    rows, _ = counts_of(counted(deltas), bundle.model_id)
    assert sum(int(one.of("decision").sum()) for one in rows) == 100


@ANY_SET
def test_a_database_is_listed_erased_from_and_replayed_from(
    kept: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unpack(kept / "stream.tar.xz", here)
    database, count = here / "flagged.db", "SELECT count(*) FROM "
    ((alerts,),) = rows(database, count + "alerts")
    assert alerts > 100
    listed = run(capsys, "alerts", "list", "--sink", DATABASE, "--limit", "1000")
    assert [alert["state"] for alert in listed["alerts"]] == ["sent"] * alerts
    assert [snooze["value"] for snooze in listed["snoozes"]] == ["nobody"]
    assert len(rows(database, "SELECT * FROM latest_labels")) == 2

    dead = ("dead-letters", "list", "--sink", DATABASE)
    assert run(capsys, *dead)["by_source"] == {"b.csv": 1}
    export = ("dead-letters", "export", "--sink", DATABASE, "--to", "repaired.jsonl")
    run(capsys, *export)
    (record,) = [json.loads(line) for line in Path("repaired.jsonl").read_text().splitlines()]
    record["payload"] = "1,2024-01-20 10:00:00,3000000012,3000000001,5.0,0,0"
    Path("repaired.jsonl").write_text(json.dumps(record) + "\n")
    header = Path("inbox/b.csv").read_text().splitlines()[0]
    again = ("--from-sink", DATABASE, "--from", "repaired.jsonl", "--header", header)
    scoring = ("--model", "model", "--out", "again", "--sink", DATABASE, "--alert", "console:")
    assert run(capsys, "dead-letters", "replay", *again, *scoring)["rows_scored"] == 1
    assert run(capsys, *dead)["dead_letters"] == 0
    result = rows(
        database, "SELECT account_id FROM flagged_transactions WHERE transaction_id = '1'"
    )
    assert result == [("3000000012",)]

    of_account = " WHERE account_id = '3000000012'"
    assert rows(database, count + "flagged_transactions" + of_account) > [(1,)]
    kept_rows = rows(database, count + "flagged_transactions WHERE account_id <> '3000000012'")
    places = ("--sink", DATABASE, "--out", "out", "--yes")
    run(capsys, "erase", "--account", "3000000012", *places)
    for table in ("flagged_transactions", "alerts"):
        assert rows(database, count + table + of_account) == [(0,)]
    assert rows(database, count + "flagged_transactions") == kept_rows
    assert "3000000012" not in pq.read_table("out/scores")["account_id"].to_pylist()


@ANY_SET
def test_the_results_of_a_batch_are_replayed_and_replaced(
    kept: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unpack(kept / "batch.tar.xz", here)
    calls = [line for line in (kept / "commands.txt").read_text().splitlines() if "day.csv" in line]
    for call, out in zip(calls, ("scored/scores", "features/features"), strict=True):
        before = pq.read_table(out)
        dead = ("dead-letters", "list", str(Path(out).parent))
        assert run(capsys, *dead)["by_reason"] == {"wrong_column_count": 1}
        assert before.num_rows == 200
        parts = set(Path(out).iterdir())
        run(capsys, *call.split()[1:])
        assert same_rows(pq.read_table(out), before)
        assert not parts & set(Path(out).iterdir())
    for place in ("flagged", "scored/dead_letters"):
        assert len(list(Path(place).glob("*.parquet"))) == 1
    alerts = run(capsys, "alerts", "list", "--out", "scored", "--limit", "1000")["alerts"]
    flagged = pq.read_table("flagged")["transaction_id"].to_pylist()
    assert len(flagged) > 10
    # To the file of then, and to the one here.
    assert sorted(alert["transaction_id"] for alert in alerts) == sorted(flagged * 2)


@ANY_SET
def test_a_bundle_is_evaluated_and_dead_letters_are_replayed(
    kept: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unpack(kept / "batch.tar.xz", here)
    assert run(capsys, "evaluate", "train.parquet", "--model", "model", "--resamples", "20")
    run(capsys, "dead-letters", "export", "scored", "--to", "repaired.jsonl")
    (record,) = [json.loads(line) for line in Path("repaired.jsonl").read_text().splitlines()]
    record["payload"] = "1,2024-01-20 10:00:00,3000000012,3000000001,5.0,0,0"
    Path("repaired.jsonl").write_text(json.dumps(record) + "\n")
    again = ("--from", "repaired.jsonl", "--model", "model", "--out", "again")
    assert run(capsys, "dead-letters", "replay", "scored", *again)["rows_scored"] == 1
    assert run(capsys, "dead-letters", "list", "scored")["dead_letters"] == 0

"""A run persists rows that its database refuses, and names the command that delivers them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beam_fraud.alerts.outbox import Outbox
from beam_fraud.cli.commands import replay, score
from beam_fraud.cli.options import ScoreOptions
from beam_fraud.errors import Code
from beam_fraud.sinks.database import DatabaseSink, keep_undelivered, replay_undelivered
from beam_fraud.storage.database import retry as persistence
from beam_fraud.storage.database.connection import sqlite_url, transaction
from beam_fraud.storage.database.tables import DEAD_LETTERS, FLAGGED
from deploy.postgres.server import Server
from tests.cli.test_commands_score import bundle
from tests.earlier import earlier
from tests.failing import fails
from tests.flagged import flagged_batch


@pytest.fixture
def options(tmp_path: Path) -> ScoreOptions:
    file = tmp_path / "day.csv"
    rows = [f"x{i},2024-01-0{i}T00:00:00Z,{i}" for i in range(1, 6)]
    file.write_text("\n".join(["id,t,a", *rows, "broken,no time,1"]) + "\n")
    return ScoreOptions(
        files=(str(file),),
        model=bundle(tmp_path / "model"),
        out=str(tmp_path / "out"),
        alerts=(f"file:{tmp_path}/alerts.jsonl",),
        sink_patience="1s",
    )


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "_LONGEST_PAUSE", 0.3)


def rows_of(url: str) -> tuple[list[str], list[str]]:
    """Return ids of the flagged transactions and reasons of the dead letters."""
    with transaction(url) as connection:
        flagged = connection.execute(FLAGGED.select()).all()
        dead = connection.execute(DEAD_LETTERS.select()).all()
    return sorted(row.transaction_id for row in flagged), [row.reason for row in dead]


def test_a_run_into_postgresql(options: ScoreOptions, postgres_database: str) -> None:
    summary = score.run(replace(options, sink=postgres_database))
    assert (summary["rows_flagged"], summary["rows_undelivered"]) == (5, 0)
    assert summary["alerts"]["sent"] == 5  # type: ignore[index]
    flagged, dead = rows_of(postgres_database)
    assert (flagged, len(dead)) == ([f"x{i}" for i in range(1, 6)], 1)
    score.run(replace(options, sink=postgres_database))
    assert rows_of(postgres_database) == (flagged, dead)
    sent = Path(options.alerts[0].removeprefix("file:")).read_text()
    assert len(sent.splitlines()) == 5
    written = (Path(options.out) / "summary.json").read_text()
    assert str(Outbox(postgres_database)) not in written
    assert "***@127.0.0.1" in written


def test_a_lost_database_is_exit_code_1_and_loses_no_row(
    options: ScoreOptions, own_postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, out = own_postgres.create_database("cards"), Path(options.out)
    begin = DatabaseSink.begin

    def begin_and_go(sink: DatabaseSink, run_id: str) -> None:
        begin(sink, run_id)
        own_postgres.stop()

    monkeypatch.setattr(DatabaseSink, "begin", begin_and_go)
    with fails(Code.ROWS_UNDELIVERED, r"^5 flagged rows .*/out/undelivered") as message:
        score.run(replace(options, sink=url, alert_patience="0s"))
    assert f"beam-fraud dead-letters replay {out} --sink URL" in str(message.value)
    assert own_postgres.password not in str(message.value)
    assert json.loads((out / "summary.json").read_text())["rows_undelivered"] == 5
    assert pq.read_table(out / "scores").num_rows == 5
    assert pq.read_table(out / "dead_letters").num_rows == 1

    own_postgres.start()
    assert rows_of(url) == ([], [])
    replayed = replay.run_to_database(str(out), url)
    assert (replayed["delivered"], replayed["alerts_waiting"]) == (5, 5)
    assert rows_of(url)[0] == [f"x{i}" for i in range(1, 6)]
    assert replay.run_to_database(str(out), url)["delivered"] == 0


def test_rows_that_an_earlier_version_kept_are_delivered(tmp_path: Path) -> None:
    kept, sink = tmp_path / "undelivered", DatabaseSink(sqlite_url(tmp_path / "flagged.db"))
    keep_undelivered(kept, earlier(flagged_batch()), (), sink.describe())
    keep_undelivered(kept, flagged_batch(["t9"]), (), sink.describe())
    assert replay_undelivered(kept, sink) == 4
    assert rows_of(sink.url)[0] == ["t0", "t1", "t2", "t9"]
    keep_undelivered(kept, flagged_batch().drop_columns(["score"]), (), sink.describe())
    with fails(Code.INPUT_DAMAGED, "holds no undelivered rows"):
        replay_undelivered(kept, sink)

"""Erasing and replaying with PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from beam_fraud.cli.commands import erase, replay
from beam_fraud.cli.commands.dead_letters import run_list
from beam_fraud.cli.options import EraseOptions, ListDeadLettersOptions
from beam_fraud.errors import Code
from beam_fraud.sinks.database import keep_undelivered
from beam_fraud.storage.database.connection import prepare_database, transaction, writing
from beam_fraud.storage.database.tables import DEAD_LETTERS, FLAGGED
from beam_fraud.storage.database.upsert import upsert
from deploy.postgres.server import Server
from tests.cli.test_commands_replay import again, letters_of
from tests.cli.test_commands_score import bundle
from tests.erasing import GONE, REVIEWED, STAYS, filled, rows_of
from tests.failing import fails
from tests.flagged import flagged_batch

pytestmark = pytest.mark.slow


def test_an_account_is_erased_from_every_table_and_the_remains_are_reported(
    postgres_database: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_fraud.operations.erasure.database.ROWS_AT_A_TIME", 7)
    filled(postgres_database)
    before = rows_of(postgres_database)
    options = EraseOptions(accounts=(GONE,), sinks=(postgres_database,))
    counted = erase.run(replace(options, dry_run=True))
    assert rows_of(postgres_database) == before
    result = erase.run(options)
    (rows,) = result["rows"].values()
    assert result["rows"] == counted["rows"]
    assert rows == {
        "labels": 2,
        "deliveries": 1,
        "alerts": 50,
        "snoozes": 1,
        "flagged_transactions": 50,
        "audited_transactions": 1,
        "dead_letters": 600,
        **REVIEWED,
    }
    after = rows_of(postgres_database)
    assert {name: before[name] - gone for name, gone in rows.items()} == {
        name: after[name] for name in rows
    }
    assert after["erasures"] == 1
    (note,) = result["notes"]
    assert "stays in its files until a vacuum, and in backups" in note
    assert postgres.password not in erase.render(result)
    with transaction(postgres_database) as connection:
        accounts = connection.execute(FLAGGED.select()).all()
    assert {row.account_id for row in accounts} == {STAYS}


def test_rows_before_a_moment_are_erased(postgres_database: str) -> None:
    filled(postgres_database)
    result = erase.run(EraseOptions(older_than="10d", sinks=(postgres_database,)))
    (rows,) = result["rows"].values()
    # Their events are of 2024, the dead letters and labels of today.
    assert (rows["flagged_transactions"], rows["alerts"], rows["dead_letters"]) == (100, 100, 0)


def test_dead_letters_of_a_database_are_replayed(postgres_database: str, tmp_path: Path) -> None:
    bundle(tmp_path / "model")
    prepare_database(postgres_database)
    with writing(postgres_database) as connection:
        upsert(connection, DEAD_LETTERS, letters_of(2_345))
    options = replace(again(tmp_path), out=None, from_sink=postgres_database)
    result = replay.run(replace(options, sink=postgres_database))
    assert (result["offered"], result["rows_scored"]) == (2_345, 2_345)
    left = run_list(ListDeadLettersOptions(out=None, sink=postgres_database))
    assert (left["dead_letters"], left["replayed"]) == (0, 2_345)
    assert rows_of(postgres_database)["flagged_transactions"] == 2_345


def test_undelivered_rows_are_written_when_the_database_is_back(
    postgres_database: str, tmp_path: Path
) -> None:
    place = tmp_path / "out" / "undelivered"
    keep_undelivered(place, flagged_batch(), ["console:"], "postgresql://db")
    (tmp_path / "out" / "dead_letters").mkdir()
    listed = run_list(ListDeadLettersOptions(out=str(tmp_path / "out")))
    assert listed["undelivered"] == 3
    result = replay.run_to_database(str(tmp_path / "out"), postgres_database)
    assert (result["delivered"], result["alerts_waiting"]) == (3, 3)
    assert "3 alerts wait there" in replay.render_delivered(result)
    assert replay.run_to_database(str(tmp_path / "out"), postgres_database)["delivered"] == 0
    assert rows_of(postgres_database)["flagged_transactions"] == 3


def test_the_servers_message_about_a_row_is_not_shown(postgres_database: str) -> None:
    prepare_database(postgres_database)
    row = letters_of(1)[0] | {"source": "of-nobody", "reason": None, "dead_at": datetime.now(UTC)}
    with (
        fails(Code.DATABASE_REFUSED, r"violates not-null constraint$") as message,
        writing(postgres_database) as connection,
    ):
        connection.execute(DEAD_LETTERS.insert(), [row])
    assert "of-nobody" not in str(message.value)

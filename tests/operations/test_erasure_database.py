"""Erasing removes an account from every table of a database and from the bytes of its file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from beam_fraud.storage.database.connection import sqlite_url
from tests.erasing import REVIEWED, filled, rows_of, run, traces


def test_an_account_is_erased_from_every_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_fraud.operations.erasure.database.ROWS_AT_A_TIME", 7)
    url = sqlite_url(tmp_path / "cases.db")
    filled(url)
    before = rows_of(url)
    counted = run(sinks=(url,), dry_run=True)
    assert rows_of(url) == before
    result = run(sinks=(url,))
    assert result["rows"] == counted["rows"]
    assert result["rows"][url] == {
        "labels": 2,
        "deliveries": 1,
        "alerts": 50,
        "snoozes": 1,
        "flagged_transactions": 50,
        "audited_transactions": 1,
        "dead_letters": 600,
        **REVIEWED,
    }
    after = rows_of(url)
    left = {name: before[name] - rows for name, rows in result["rows"][url].items()}
    assert {name: after[name] for name in left} == left
    assert traces(tmp_path) == []
    assert run(sinks=(url,))["total"] == 0
    assert rows_of(url)["erasures"] == 2


def test_earlier_deleted_rows_leave_the_file_too(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "cases.db")
    filled(url)
    with closing(sqlite3.connect(tmp_path / "cases.db")) as connection, connection:
        connection.execute("PRAGMA secure_delete = OFF")
        for table in (
            *("flagged_transactions", "alerts", "labels", "snoozes", "dead_letters"),
            "linked_values",
        ):
            connection.execute(f"DELETE FROM {table}")
    assert traces(tmp_path)
    run(sinks=(url,))
    assert traces(tmp_path) == []

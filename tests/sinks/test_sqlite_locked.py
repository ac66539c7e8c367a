"""An SQLite file that another process locks, or a full disk: no row is lost."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from beam_fraud.errors import Code
from beam_fraud.sinks.database import DatabaseSink, replay_undelivered
from beam_fraud.storage.database import engines
from beam_fraud.storage.database import retry as persistence
from beam_fraud.storage.database.connection import prepare_database, sqlite_url, transaction
from beam_fraud.storage.database.tables import FLAGGED
from tests.failing import fails
from tests.flagged import flagged_batch


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "_LONGEST_PAUSE", 0.3)
    monkeypatch.setattr(persistence, "_LOCK_SECONDS", 0.1)
    # Before a database is made: its connections wait for as long as its first one did.
    monkeypatch.setattr(engines, "SILENT_SECONDS", 0.1)


def keys(url: str) -> list[str]:
    with transaction(url) as connection:
        query = select(FLAGGED.c.transaction_id).order_by(FLAGGED.c.transaction_id)
        return list(connection.execute(query).scalars())


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """An SQLite database that another process locks until the test releases it."""
    file = tmp_path / "flagged.db"
    prepare_database(sqlite_url(file))
    code = (
        "import sqlite3, sys\n"
        f"connection = sqlite3.connect({str(file)!r}, isolation_level=None)\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == b"held\n"
        yield sqlite_url(file), process
        process.kill()


def test_a_locked_sqlite_file_is_waited_for(locked: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, process = locked
    sink = DatabaseSink(url, patience=20)
    release = threading.Timer(1, process.send_signal, [signal.SIGKILL])
    release.start()
    sink.open("r").write(flagged_batch(["a"]))
    release.join()
    assert keys(url) == ["a"]


def test_sqlite_that_stays_locked_leaves_rows_on_disk(
    locked: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    url, process = locked
    sink = DatabaseSink(url, patience=0.3, spill=tmp_path / "undelivered")
    writer = sink.open("r")
    writer.write(flagged_batch(["a"]))
    writer.close()
    assert keys(url) == []
    process.kill()
    process.wait()
    assert replay_undelivered(tmp_path / "undelivered", sink) == 1
    assert keys(url) == ["a"]


def test_a_lock_from_before_the_start_that_stays_leaves_rows_on_disk(
    locked: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    url, process = locked
    sink = DatabaseSink(url, patience=0.3, spill=tmp_path / "undelivered")
    sink.check()
    sink.begin("r")
    writer = sink.open("r")
    writer.write(flagged_batch(["a"]))
    writer.close()
    sink.commit("r")
    assert writer.undelivered == 1
    process.kill()
    process.wait()
    assert replay_undelivered(tmp_path / "undelivered", sink) == 1
    assert keys(url) == ["a"]


def test_a_lock_from_before_the_start_fails_where_rows_cannot_wait(
    locked: tuple[str, subprocess.Popen[bytes]],
) -> None:
    url, _ = locked
    with fails(Code.DATABASE_LOCKED, "another process"):
        DatabaseSink(url, patience=0.3).begin("r")


def test_rows_of_a_full_database_wait_on_disk_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = sqlite_url(tmp_path / "flagged.db")
    sink = DatabaseSink(url, patience=600, spill=tmp_path / "undelivered")
    sink.begin("r")
    ids = [f"t{number:04}" for number in range(5_000)]

    def bound(connection: sqlite3.Connection, record: object) -> None:
        # As a full disk does, it lets no file grow.
        connection.execute("PRAGMA max_page_count = 60")

    with monkeypatch.context() as full:
        full.setattr(engines, "_tune_sqlite", bound)
        engines._engine.cache_clear()
        writer = sink.open("r")
        writer.write(flagged_batch(ids))
        writer.close()
    engines._engine.cache_clear()
    assert writer.undelivered == 5_000
    assert keys(url) == []
    [message] = caplog.messages
    assert "database or disk is full; free some space" in message
    assert replay_undelivered(tmp_path / "undelivered", sink) == 5_000
    assert keys(url) == ids

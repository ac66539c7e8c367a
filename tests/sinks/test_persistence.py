"""A database that is down, slow, locked or full is retried, and no row is lost."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, select, text

from beam_fraud.alerts.outbox import Outbox
from beam_fraud.errors import Code, FraudError
from beam_fraud.sinks.database import DatabaseSink, replay_undelivered, undelivered_parts
from beam_fraud.storage.database import engines, postgresql
from beam_fraud.storage.database import (
    retry as persistence,
)
from beam_fraud.storage.database.connection import prepare_database, sqlite_url, transaction
from beam_fraud.storage.database.errors import PassingDatabaseError
from beam_fraud.storage.database.retry import PersistentConnection, persistently
from beam_fraud.storage.database.tables import FLAGGED
from deploy.postgres.server import Server
from tests.failing import fails
from tests.flagged import flagged_batch
from tests.requirements import postgres_home


@pytest.fixture
def database(postgres_database: str) -> str:
    """The URL of an empty database."""
    return postgres_database


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "_LONGEST_PAUSE", 0.3)
    monkeypatch.setattr(persistence, "_LOCK_SECONDS", 0.3)


def keys(url: str) -> list[str]:
    with transaction(url) as connection:
        query = select(FLAGGED.c.transaction_id).order_by(FLAGGED.c.transaction_id)
        return list(connection.execute(query).scalars())


def log_of(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.fixture
def prepared(postgres_database: str) -> str:
    prepare_database(postgres_database)
    return postgres_database


def in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_server_that_restarts_between_two_writes_costs_no_row(
    own_postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "beam_fraud")
    sink = DatabaseSink(own_postgres.create_database("cards"), patience=30)
    sink.begin("r")
    writer = sink.open("r")
    writer.write(flagged_batch(["a"]))
    own_postgres.kill()
    restart = in_background(lambda: (time.sleep(1), own_postgres.start()))
    writer.write(flagged_batch(["b"]), ["console"])
    restart.join()
    writer.close()
    assert keys(sink.url) == ["a", "b"]
    assert Outbox(sink.url).counts()["console"].pending == 1
    [warned, message] = log_of(caplog)
    assert warned[0] == "WARNING"
    assert warned[1].endswith("trying again for up to 30 seconds")
    assert own_postgres.password not in warned[1]
    assert message[0] == "INFO"
    assert "back after" in message[1]


def test_a_transaction_that_a_restart_interrupts_is_retried(
    own_postgres: Server,
) -> None:
    url = own_postgres.create_database("cards")
    prepare_database(url)
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        connection.execute(
            text("INSERT INTO runs (run_id, state, started_at) VALUES ('x', 'running', now())")
        )
        if len(tries) == 1:
            own_postgres.kill()
            own_postgres.start()

    persistently(url, work, patience=20)
    assert len(tries) == 2
    with transaction(url) as connection:
        assert connection.scalar(text("SELECT count(*) FROM runs")) == 1


def test_a_database_that_stays_down_leaves_rows_on_disk_that_can_be_replayed(
    own_postgres: Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spill = tmp_path / "out" / "undelivered"
    sink = DatabaseSink(own_postgres.create_database("cards"), patience=1, spill=spill)
    sink.begin("r")
    writer = sink.open("r")
    own_postgres.stop()
    writer.write(flagged_batch(["a", "b"]), ["console"])
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    writer.write(flagged_batch(["c"]), ["console"])
    monkeypatch.undo()
    assert not pauses, "once given up, a database is tried once"
    assert (writer.undelivered, len(undelivered_parts(spill))) == (3, 2)
    assert own_postgres.password not in caplog.text
    assert not any(own_postgres.password.encode() in p.read_bytes() for p in spill.iterdir())
    sink.commit("r")
    with pytest.raises(PassingDatabaseError):
        replay_undelivered(spill, sink)
    assert len(undelivered_parts(spill)) == 2

    own_postgres.start()
    writer.write(flagged_batch(["d"]))
    assert writer.undelivered == 3
    writer.close()
    assert replay_undelivered(spill, sink) == 3
    assert keys(sink.url) == ["a", "b", "c", "d"]
    assert Outbox(sink.url).counts()["console"].pending == 3
    assert list(spill.iterdir()) == []
    assert replay_undelivered(spill, sink) == 0


def test_refused_rows_without_a_directory_are_an_error(
    own_postgres: Server, tmp_path: Path
) -> None:
    url = own_postgres.create_database("cards")
    prepare_database(url)
    own_postgres.stop()
    with pytest.raises(FraudError, match="refused"):
        DatabaseSink(url, patience=0.2).open("r").write(flagged_batch())
    (tmp_path / "undelivered").write_text("a file in the way")
    sink = DatabaseSink(url, patience=0.2, spill=tmp_path / "undelivered")
    with pytest.raises(FraudError, match="is a file"):
        sink.open("r").write(flagged_batch())


def test_permanent_failures_are_not_retried(
    prepared: str, caplog: pytest.LogCaptureFixture
) -> None:
    for statement in ("INSERT INTO runs (run_id) VALUES ('x')", "SELECT no_such_column FROM runs"):
        with pytest.raises(FraudError) as refused:
            persistently(prepared, lambda c, s=statement: c.execute(text(s)))  # type: ignore[misc]
        assert refused.type is FraudError
    assert log_of(caplog) == []


@pytest.mark.parametrize(
    "code", ["53200", "53300", "40001", "40P01", "57014", "57P01", "55P03", "58000", "08006"]
)
def test_temporary_failures_of_postgresql_are_retried(prepared: str, code: str) -> None:
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        if len(tries) < 3:
            raising = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$"
            connection.exec_driver_sql(raising)

    persistently(prepared, work, patience=20)
    assert len(tries) == 3


@pytest.mark.parametrize("code", ["53100", "58030", "54000", "42501", "28000", "42P01"])
def test_a_full_disk_and_permanent_failures_are_not_retried(
    prepared: str, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        raising = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$"
        connection.exec_driver_sql(raising)

    with pytest.raises(FraudError, match="no"):
        persistently(prepared, work, patience=60)
    assert len(tries) == 1
    assert log_of(caplog) == []


def test_a_locked_row_is_waited_for(prepared: str) -> None:
    sink = DatabaseSink(prepared, patience=20)
    sink.open("r").write(flagged_batch(["a"], score=0.5))
    waiting = threading.Event()

    def hold() -> None:
        with transaction(prepared) as connection:
            connection.execute(text("UPDATE flagged_transactions SET score = 0.6"))
            waiting.set()
            # Longer than one try waits for a lock.
            connection.execute(text("SELECT pg_sleep(1)"))

    holder = in_background(hold)
    waiting.wait()
    sink.open("r").write(flagged_batch(["a"], score=0.9))
    holder.join()
    with transaction(prepared) as connection:
        assert connection.execute(select(FLAGGED.c.score)).scalars().all() == [0.9]


def test_a_slow_statement_is_cancelled_and_retried(
    prepared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistence, "_STATEMENT_SECONDS", 0.2)
    seconds = iter([5, 0])
    persistently(
        prepared, lambda c: c.execute(text(f"SELECT pg_sleep({next(seconds)})")), patience=20
    )
    assert next(seconds, None) is None


def test_a_stalled_server_is_retried(own_postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "ANSWER_SECONDS", 0.5)
    sink = DatabaseSink(own_postgres.create_database("cards"), patience=30)
    sink.begin("r")
    writer = sink.open("r")
    writer.write(flagged_batch(["a"]))
    own_postgres.send(signal.SIGSTOP)
    goes_on = threading.Timer(2, own_postgres.send, [signal.SIGCONT])
    goes_on.start()
    writer.write(flagged_batch(["b"]))
    assert not goes_on.is_alive(), "it was written while the server was stopped"
    writer.close()
    assert keys(sink.url) == ["a", "b"]


def test_a_connection_that_the_server_ends_is_reopened(postgres: Server, prepared: str) -> None:
    connection = PersistentConnection(prepared, 20)
    backend = connection.write(lambda c: c.scalar(text("SELECT pg_backend_pid()")))
    postgres.execute(f"SELECT pg_terminate_backend({backend})")
    assert connection.write(lambda c: c.scalar(text("SELECT pg_backend_pid()"))) != backend
    connection.close()


def test_too_many_connections_are_waited_for() -> None:
    settings = {"max_connections": "4", "superuser_reserved_connections": "0"}
    settings |= {"max_wal_senders": "0"}
    with postgres_home() as home, Server(home, settings=settings) as server:
        url = server.create_database("cards")
        prepare_database(url)
        engines._engine.cache_clear()
        opened: list[psycopg.Connection] = []
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            opened.extend(psycopg.connect(url) for _ in range(8))
        assert opened
        release = in_background(lambda: (time.sleep(0.7), [held.close() for held in opened]))
        DatabaseSink(url, patience=20).open("r").write(flagged_batch(["a"]))
        release.join()
        assert keys(url) == ["a"]


def _write_shared(url: str, order: list[str], start: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    writer = DatabaseSink(url, patience=60).open("r")
    for _ in range(15):
        writer.write(flagged_batch(order), ["console"])
    writer.close()


def test_workers_that_are_forked_write_the_same_rows_at_once(prepared: str) -> None:
    # The parent has a connection, which no child may use.
    DatabaseSink(prepared).open("r").write(flagged_batch(["shared"]))
    context = multiprocessing.get_context("fork")
    start = context.Barrier(3)
    ids = [f"t{number}" for number in range(300)]
    orders = [ids, ids[::-1], ids[150:] + ids[:150]]
    workers = [context.Process(target=_write_shared, args=(prepared, o, start)) for o in orders]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert keys(prepared) == sorted([*ids, "shared"])
    assert Outbox(prepared).counts()["console"].pending == 300


def test_a_foreign_file_among_the_parts_is_refused_and_stays(tmp_path: Path) -> None:
    sink = DatabaseSink(sqlite_url(tmp_path / "x.db"))
    part = tmp_path / "undelivered" / "part-x.parquet"
    part.parent.mkdir()
    part.write_bytes(b"no Parquet")
    with fails(Code.INPUT_DAMAGED, r"part-x\.parquet: .* move it away"):
        replay_undelivered(part.parent, sink)
    assert part.exists()
    assert sqlite3.connect(tmp_path / "x.db").execute(
        "SELECT count(*) FROM flagged_transactions"
    ).fetchone() == (0,)

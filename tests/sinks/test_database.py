import multiprocessing
import sqlite3
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from beam_fraud.alerts.alert import Alert
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.errors import Code, FraudError
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.storage.database import connection as connection_module
from beam_fraud.storage.database import engines
from beam_fraud.storage.database.connection import sqlite_url, transaction, writing
from beam_fraud.storage.database.tables import ALERTS, FLAGGED, RUNS
from tests.failing import fails
from tests.flagged import alerts_of, flagged_batch


@pytest.fixture
def file(tmp_path):
    return tmp_path / "flagged.db"


@pytest.fixture
def sink(file):
    sink = DatabaseSink(sqlite_url(file))
    sink.begin("first")
    return sink


def _states(sink):
    with transaction(sink.url) as connection:
        return dict(connection.execute(select(RUNS.c.run_id, RUNS.c.state)).all())


def _keys(file):
    with sqlite3.connect(file) as connection:
        return connection.execute(
            "SELECT transaction_id, model_id, score FROM flagged_transactions ORDER BY 1, 2"
        ).fetchall()


def test_models_have_rows_of_their_own(sink, file):
    writer = sink.open("r")
    writer.write(flagged_batch(["t"], model_id="a@1"))
    writer.write(flagged_batch(["t"], model_id="b@1"))
    assert [row[:2] for row in _keys(file)] == [("t", "a@1"), ("t", "b@1")]


def test_runs_are_noted_with_how_they_ended(sink):
    for run in ("good", "bad", "killed"):
        sink.begin(run)
    sink.commit("good")
    sink.discard("good")
    sink.discard("bad")
    assert _states(sink) == {
        "first": "running",
        "good": "succeeded",
        "bad": "failed",
        "killed": "running",
    }


def test_sqlite_sorts_event_times_and_any_reader_can_read_them(sink, file):
    sink.open("r").write(flagged_batch(["b", "a", "c"], minutes=[2, 0, 1]))
    with sqlite3.connect(file) as connection:
        rows = connection.execute(
            "SELECT transaction_id, event_time FROM flagged_transactions ORDER BY event_time"
        ).fetchall()
    assert [key for key, _ in rows] == ["a", "c", "b"]
    assert rows[0][1] == "2024-05-01 12:00:00.000005"


def test_a_time_in_another_zone_is_the_same_moment(sink):
    summer = datetime.fromisoformat("2024-07-01T02:00:00+02:00")
    with transaction(sink.url) as connection:
        connection.execute(RUNS.insert().values(run_id="z", state="running", started_at=summer))
        started = select(RUNS.c.started_at).where(RUNS.c.run_id == "z")
        read = connection.execute(started).scalar_one()
    assert (read, read.utcoffset()) == (datetime(2024, 7, 1, tzinfo=UTC), timedelta(0))


def test_alerts_are_queued_with_their_row_or_not_at_all(sink, file):
    batch = flagged_batch(["t"])
    [alert] = alerts_of(batch, ["console"])
    sink.open("r").write(batch, ["console"])
    with transaction(sink.url) as connection:
        [row] = connection.execute(select(ALERTS))
    assert Alert.from_row(row._asdict()) == alert

    with sqlite3.connect(file) as connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON alerts BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    other = flagged_batch(["u"])
    with pytest.raises(FraudError, match="no"):
        sink.open("r").write(other, ["console"])
    assert [key for key, *_ in _keys(file)] == ["t"]


@settings(max_examples=12, deadline=None)
@given(
    writes=st.lists(
        st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("mn")), max_size=5), max_size=4
    )
)
def test_writing_anything_twice_changes_nothing(tmp_path_factory, writes):
    file = tmp_path_factory.mktemp("db") / "f.db"
    sink = DatabaseSink(sqlite_url(file))
    sink.begin("first")
    once = []
    for _ in range(2):
        writer = sink.open("r")
        for write in writes:
            for key, model in write:
                writer.write(flagged_batch([key], model_id=model))
        writer.close()
        once.append(_keys(file))
    assert once[0] == once[1]
    assert {row[:2] for row in once[0]} == {pair for write in writes for pair in write}


def _write_blocks(sink, name, start):
    start.wait()
    writer = sink.open(name)
    for block in range(20):
        keys = [f"{name}-{block}-{i}" for i in range(50)]
        batch = flagged_batch([*keys, "shared"])
        writer.write(batch, ["console"])
    writer.close()


def test_two_processes_write_at_once(sink, file):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    workers = [context.Process(target=_write_blocks, args=(sink, n, start)) for n in ("p", "q")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(_keys(file)) == 2 * 20 * 50 + 1
    assert Outbox(sink.url).counts()["console"].pending == 2 * 20 * 50 + 1


def test_a_file_that_is_no_database_is_refused(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("dear diary " * 200)
    with fails(Code.DATABASE_REFUSED, r"notes\.txt: file is not a database"):
        DatabaseSink(sqlite_url(file)).check()
    assert file.read_text().startswith("dear diary")


def _state(directory):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()}


@pytest.mark.parametrize("place", [lambda url: DatabaseSink(url), lambda url: Outbox(url)])
def test_a_check_changes_nothing(tmp_path, place):
    for journal in ("delete", "wal"):
        with sqlite3.connect(tmp_path / f"{journal}.db") as connection:
            connection.execute(f"PRAGMA journal_mode = {journal}")
            connection.execute("CREATE TABLE of_others (x)")
        connection.close()
    before = _state(tmp_path)
    for name in ("new.db", "new/folder/x.db", "delete.db", "wal.db"):
        place(sqlite_url(tmp_path / name)).check()
    assert _state(tmp_path) == before


def test_tables_of_others_stay_in_the_database(file):
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE of_others (x)")
    sink = DatabaseSink(sqlite_url(file))
    sink.begin("r")
    with sqlite3.connect(file) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert {"of_others", "flagged_transactions", "alerts", "runs"} <= names


def test_a_database_that_is_a_directory_is_refused(tmp_path):
    with fails(Code.DATABASE_FILE, "database "):
        DatabaseSink(sqlite_url(tmp_path)).check()


@pytest.fixture
def locked(sink, file, monkeypatch):
    monkeypatch.setattr(connection_module, "BUSY_SECONDS", 0.6)
    monkeypatch.setattr(connection_module, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(engines, "SILENT_SECONDS", 0.2)
    engines._engine.cache_clear()
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()
    engines._engine.cache_clear()


def test_a_temporary_lock_is_waited_for(sink, locked, file):
    release = threading.Timer(0.3, locked.execute, ["ROLLBACK"])
    release.start()
    sink.open("r").write(flagged_batch(["t"]))
    release.join()
    assert [key for key, *_ in _keys(file)] == ["t"]


def test_a_permanent_lock_is_one_line_with_the_fix(sink, locked, caplog):
    with pytest.raises(FraudError) as refused, writing(sink.url):
        pass
    assert str(refused.value).endswith(
        "locked by another process; run again when that has finished, or stop it"
    )
    assert [record.getMessage() for record in caplog.records] == [
        f"database {sink.describe()}: locked by another process, waiting up to 0.6 seconds for it"
    ]


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("(transaction_id TEXT PRIMARY KEY)", "lacks the column 'model_id'"),
        (f"({', '.join(c.name for c in FLAGGED.columns)})", "does not have the key"),
    ],
)
def test_a_foreign_table_is_refused(file, definition, message):
    with sqlite3.connect(file) as connection:
        connection.execute(f"CREATE TABLE flagged_transactions {definition}")
    with pytest.raises(FraudError, match="'flagged_transactions'") as refused:
        DatabaseSink(sqlite_url(file)).begin("r")
    assert message in str(refused.value)
    with sqlite3.connect(file) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        [mode] = connection.execute("PRAGMA journal_mode").fetchone()
    assert (names, mode) == ([("flagged_transactions",)], "delete")


def test_a_database_that_vanished_is_one_line(sink, file):
    for part in file.parent.glob("flagged.db*"):
        part.unlink()
    with pytest.raises(FraudError, match="no such table") as refused:
        sink.commit("first")
    assert "\n" not in str(refused.value)


def test_a_password_is_masked():
    shown = DatabaseSink("postgresql://me:hunter2@host/db").describe()
    assert "hunter2" not in shown
    assert "me" in shown

import multiprocessing
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from beam_fraud.alert import alerts_of
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.errors import FraudError
from beam_fraud.sinks.connection import sqlite_url, transaction
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.sinks.tables import FLAGGED, RUNS
from tests.flagged import flagged_batch


@pytest.fixture
def file(tmp_path):
    return tmp_path / "flagged.db"


@pytest.fixture
def sink(file):
    sink = DatabaseSink(sqlite_url(file))
    sink.check()
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
    assert _states(sink) == {"good": "succeeded", "bad": "failed", "killed": "running"}


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
        read = connection.execute(select(RUNS.c.started_at)).scalar_one()
    assert (read, read.utcoffset()) == (datetime(2024, 7, 1, tzinfo=UTC), timedelta(0))


def test_alerts_are_queued_with_their_row_or_not_at_all(sink, file):
    batch, outbox = flagged_batch(["t"]), Outbox(sink.url)
    [alert] = alerts_of(batch, ["console"])
    sink.open("r").write(batch, [alert])
    assert outbox.pending("console", 9) == [alert]

    with sqlite3.connect(file) as connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON alerts BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    other = flagged_batch(["u"])
    with pytest.raises(FraudError, match="no"):
        sink.open("r").write(other, alerts_of(other, ["console"]))
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
    sink.check()
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
        writer.write(batch, alerts_of(batch, ["console"]))
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
    with pytest.raises(FraudError, match=r"notes\.txt: file is not a database"):
        DatabaseSink(sqlite_url(file)).check()
    assert file.read_text().startswith("dear diary")


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ("(transaction_id TEXT PRIMARY KEY)", "lacks the column 'model_id'"),
        (f"({', '.join(c.name for c in FLAGGED.columns)})", "does not have the key"),
    ],
)
def test_a_table_of_someone_else_is_refused(file, definition, said):
    with sqlite3.connect(file) as connection:
        connection.execute(f"CREATE TABLE flagged_transactions {definition}")
    with pytest.raises(FraudError, match="'flagged_transactions'") as refused:
        DatabaseSink(sqlite_url(file)).check()
    assert said in str(refused.value)


def test_a_database_that_vanished_is_one_line(sink, file):
    for part in file.parent.glob("flagged.db*"):
        part.unlink()
    with pytest.raises(FraudError, match="no such table") as refused:
        sink.begin("r")
    assert "\n" not in str(refused.value)


def test_a_password_is_masked():
    shown = DatabaseSink("postgresql://me:hunter2@host/db").describe()
    assert "hunter2" not in shown
    assert "me" in shown

"""Labels in a database: repeated writes are idempotent, and a view has the newest."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest

from beam_fraud.errors import Code
from beam_fraud.runners.submission import LOCAL_RUNNER
from beam_fraud.schema.stages import LABEL
from beam_fraud.sinks.labels import write_labels
from beam_fraud.storage.database.connection import prepare_database, sqlite_url, writing
from beam_fraud.storage.database.migrations import migrate
from beam_fraud.storage.database.tables import VERSION_TABLE
from beam_fraud.transforms.write_tables import WriteLabels
from tests.failing import fails

START = datetime(2024, 5, 1, 12, 0, 0, 5, tzinfo=UTC)
Finding = tuple[str, int, int, str]


def labels(*findings: Finding) -> pa.RecordBatch:
    """Return rows of transaction, label, day and author."""
    rows = [
        {
            "transaction_id": transaction,
            "account_id": "a",
            "merchant_id": None,
            "event_time": START,
            "label": label,
            "labelled_at": START + timedelta(days=day),
            "labelled_by": who,
        }
        for transaction, label, day, who in findings
    ]
    return pa.RecordBatch.from_pylist(rows, LABEL)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "flagged.db"
    prepare_database(sqlite_url(file))
    return file


def read(file: Path, table: str) -> list[tuple[str, int, str, str]]:
    with sqlite3.connect(file) as connection:
        return connection.execute(
            f"SELECT transaction_id, label, labelled_at, labelled_by FROM {table} ORDER BY 1, 3, 4"
        ).fetchall()


def test_writing_the_same_labels_twice_changes_nothing(file: Path) -> None:
    batch = labels(("t1", 1, 1, "eve"), ("t2", 0, 1, "eve"))
    write_labels(sqlite_url(file), batch)
    once = read(file, "labels")
    write_labels(sqlite_url(file), batch)
    assert read(file, "labels") == once
    assert once[0] == ("t1", 1, "2024-05-02 12:00:00.000005", "eve")
    assert len(once) == 2


def test_every_label_is_stored_and_the_newest_in_the_view(file: Path) -> None:
    write_labels(sqlite_url(file), labels(("t1", 1, 3, "eve"), ("t1", 0, 2, "bob")))
    write_labels(sqlite_url(file), labels(("t2", 0, 1, "eve"), ("t1", 1, 1, "bob")))
    assert len(read(file, "labels")) == 4
    latest = [(row[0], row[1], row[3]) for row in read(file, "latest_labels")]
    assert latest == [("t1", 1, "eve"), ("t2", 0, "eve")]


def test_of_two_labels_of_one_moment_one_counts(file: Path) -> None:
    write_labels(sqlite_url(file), labels(("t1", 1, 1, "bob"), ("t1", 0, 1, "eve")))
    assert [(row[1], row[3]) for row in read(file, "latest_labels")] == [(0, "eve")]


def test_a_label_corrected_at_its_own_moment_is_replaced(file: Path) -> None:
    for label in (1, 0):
        write_labels(sqlite_url(file), labels(("t1", label, 1, "eve")))
    assert [row[1] for row in read(file, "labels")] == [0]


def test_a_database_of_an_earlier_version_gets_the_missing_tables(file: Path) -> None:
    file.unlink()
    with writing(sqlite_url(file)) as connection:
        migrate(connection, "0001")
        for statement in ("VIEW latest_labels", "TABLE labels", f"TABLE {VERSION_TABLE}"):
            connection.exec_driver_sql(f"DROP {statement}")
    for _ in range(2):
        prepare_database(sqlite_url(file))
    write_labels(sqlite_url(file), labels(("t1", 1, 1, "")))
    assert len(read(file, "latest_labels")) == 1


def test_a_foreign_table_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE labels (name TEXT)")
    connection.close()
    with fails(Code.DATABASE_TABLES, "'labels' .* 'transaction_id'"):
        prepare_database(sqlite_url(file))


def test_the_graph_writes_them(file: Path) -> None:
    batches = [labels(("t1", 1, 1, "eve")), labels(), labels(("t2", 0, 1, "eve"))]
    with beam.Pipeline(runner=LOCAL_RUNNER) as pipeline:
        _ = pipeline | beam.Create(batches) | WriteLabels(sqlite_url(file))
    assert [row[:2] for row in read(file, "labels")] == [("t1", 1), ("t2", 0)]

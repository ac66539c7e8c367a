"""Dead letters in a database table."""

from __future__ import annotations

import logging
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest
from sqlalchemy import select

from beam_fraud.runners.submission import LOCAL_RUNNER
from beam_fraud.schema.stages import DEAD_LETTER
from beam_fraud.sinks import dead_letters
from beam_fraud.sinks.dead_letters import write_dead_letters
from beam_fraud.storage.database.connection import (
    prepare_database,
    sqlite_url,
    transaction,
    writing,
)
from beam_fraud.storage.database.tables import DEAD_LETTERS
from beam_fraud.transforms.write_tables import WriteDeadLettersTable

#: Larger than 32 bits hold, as positions in a topic are.
FAR = 5_000_000_000


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        created = sqlite_url(tmp_path / "dead.db")
    else:
        created = str(request.getfixturevalue("postgres_database"))
    prepare_database(created)
    return created


def letters(*positions: int, reason: str = "no_time") -> pa.RecordBatch:
    rows = [
        {
            "source": "topic:0",
            "position": position,
            "reason": reason,
            "detail": "not a time: 'nul\0'",
            "payload": b"\x00\xff binary",
        }
        for position in positions
    ]
    return pa.RecordBatch.from_pylist(rows, schema=DEAD_LETTER)


def read(url: str) -> list[tuple[object, ...]]:
    with transaction(url) as connection:
        query = select(DEAD_LETTERS).order_by(DEAD_LETTERS.c.position)
        return [tuple(row) for row in connection.execute(query)]


def test_payloads_come_back_byte_for_byte(url: str) -> None:
    assert write_dead_letters(url, letters(FAR))
    [(source, position, reason, _, payload, dead_at, replayed_at)] = read(url)
    assert (source, position, reason) == ("topic:0", FAR, "no_time")
    assert (payload, replayed_at) == (b"\x00\xff binary", None)
    assert dead_at is not None


def test_the_same_again_changes_nothing(url: str) -> None:
    write_dead_letters(url, letters(1, 2))
    before = read(url)
    write_dead_letters(url, letters(2, 1))
    assert read(url) == before
    write_dead_letters(url, letters(1, reason="no_amount"))
    assert [row[2] for row in read(url)] == ["no_amount", "no_time"]


def test_many_bytes_are_written_in_parts(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "_BYTES_AT_A_TIME", 200)
    assert write_dead_letters(url, letters(*range(50)))
    assert len(read(url)) == 50


def test_the_graph_writes_them(url: str) -> None:
    with beam.Pipeline(runner=LOCAL_RUNNER) as pipeline:
        batches = [letters(1, 2), letters(), letters(3)]
        created = pipeline | beam.Create(batches).with_output_types(pa.RecordBatch)
        created | WriteDeadLettersTable(url)
    assert [row[1] for row in read(url)] == [1, 2, 3]


def test_a_database_that_stays_locked_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("beam_fraud.storage.database.engines.SILENT_SECONDS", 0.1)
    monkeypatch.setattr("beam_fraud.storage.database.retry._LOCK_SECONDS", 0.1)
    url = sqlite_url(tmp_path / "dead.db")
    prepare_database(url)
    caplog.set_level(logging.WARNING)
    with writing(url):
        assert not write_dead_letters(url, letters(1), patience=0.2)
    assert "1 dead letters are in the Parquet files alone" in caplog.text
    assert read(url) == []

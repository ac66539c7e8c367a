"""What waits for a place is delivered in order, also after outages and restarts."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
import pytest

from beam_fraud.errors import Code, FraudError
from beam_fraud.serve import backlog as module
from beam_fraud.serve.backlog import Backlog
from beam_fraud.storage.journal import JournaledCheckpoint
from tests.fn_runner import until

ROWS = pa.schema([("n", pa.int64())])


def rows(*numbers: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array(numbers, pa.int64())], schema=ROWS)


class Place:
    """Takes rows while it is there."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = threading.Event()
        if away:
            self.away.set()
        self.taken: list[int] = []

    def __call__(self, batch: pa.RecordBatch) -> None:
        if self.away.is_set():
            raise FraudError("the place is away", Code.DATABASE_SILENT)
        self.taken += batch.column("n").to_pylist()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.01)


def fold(backlog: Backlog, checkpoint: JournaledCheckpoint) -> None:
    backlog.fold()
    checkpoint.commit({}, fold=True)
    backlog.committed()


def left(path: Path) -> list[int]:
    """Return what the next process delivers."""
    checkpoint, place = JournaledCheckpoint(path), Place()
    backlog = Backlog("flagged", checkpoint, place)
    waits = backlog.rows
    backlog.start()
    assert backlog.stop(5.0) == 0
    assert len(place.taken) == waits
    fold(backlog, checkpoint)
    assert checkpoint.shards("flagged") == []
    checkpoint.close()
    return place.taken


def test_rows_arrive_in_order(tmp_path: Path) -> None:
    checkpoint, place = JournaledCheckpoint(tmp_path / "state.db"), Place()
    backlog = Backlog("flagged", checkpoint, place)
    backlog.start()
    for number in range(20):
        backlog.add(rows(2 * number, 2 * number + 1))
        if number % 3 == 0:
            fold(backlog, checkpoint)
    until(lambda: backlog.rows == 0)
    assert backlog.stop(5.0) == 0
    assert place.taken == list(range(40))
    fold(backlog, checkpoint)
    assert checkpoint.base.shards("flagged") == []
    checkpoint.close()


def test_rows_wait_for_a_place_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many rows, most wait on the disk alone."""
    monkeypatch.setattr(module, "_ROWS_IN_MEMORY", 3)
    checkpoint, place = JournaledCheckpoint(tmp_path / "state.db"), Place(away=True)
    backlog = Backlog("flagged", checkpoint, place)
    backlog.start()
    for number in range(10):
        backlog.add(rows(number))
        fold(backlog, checkpoint)
    assert backlog.rows == 10
    place.away.clear()
    until(lambda: backlog.rows == 0)
    assert place.taken == list(range(10))
    backlog.stop(5.0)
    checkpoint.close()


def test_the_next_process_delivers_what_waits(tmp_path: Path) -> None:
    checkpoint, place = JournaledCheckpoint(tmp_path / "state.db"), Place(away=True)
    backlog = Backlog("flagged", checkpoint, place)
    backlog.start()
    backlog.add(rows(1, 2))
    fold(backlog, checkpoint)
    backlog.add(rows(3))
    fold(backlog, checkpoint)
    assert backlog.stop(0.5) == 3
    checkpoint.close()
    checkpoint, place = JournaledCheckpoint(tmp_path / "state.db"), Place()
    backlog = Backlog("flagged", checkpoint, place)
    assert backlog.rows == 3
    backlog.start()
    until(lambda: backlog.rows == 0)
    assert place.taken == [1, 2, 3]
    backlog.stop(5.0)
    checkpoint.close()


def test_rows_of_a_fold_that_was_lost_are_part_of_the_next(tmp_path: Path) -> None:
    """As after a commit that the full disk refused, and a group that failed then."""
    path = tmp_path / "state.db"
    checkpoint, place = JournaledCheckpoint(path), Place(away=True)
    backlog = Backlog("flagged", checkpoint, place)
    backlog.add(rows(1, 2))
    backlog.fold()
    checkpoint.discard()
    backlog.discarded()
    backlog.add(rows(3))
    fold(backlog, checkpoint)
    checkpoint.close()
    assert left(path) == [1, 2, 3]


def test_rows_that_a_commit_takes_outlive_the_process_and_no_others_do(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    checkpoint, place = JournaledCheckpoint(path), Place(away=True)
    backlog = Backlog("flagged", checkpoint, place)
    backlog.start()
    for number in range(6):
        backlog.take(rows(number))
        if number == 3:
            checkpoint.discard()
            backlog.discarded()
            continue
        checkpoint.commit({}, fold=number == 4)
        backlog.committed()
        if number == 1:
            backlog.tidy()
    backlog.take(rows(6))
    assert backlog.rows == 5
    assert backlog.stop(0.5) == 5
    checkpoint.close()
    assert left(path) == [0, 1, 2, 4, 5]


def test_rows_that_commits_take_are_delivered_once_and_leave_the_state(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    checkpoint, place = JournaledCheckpoint(path), Place()
    backlog = Backlog("flagged", checkpoint, place)
    backlog.start()
    for number in range(100):
        backlog.take(rows(number))
        checkpoint.commit({}, fold=number % 7 == 3)
        backlog.committed()
        if number % 5 == 0:
            until(lambda: backlog.rows == 0)
        if number % 3 == 0:
            backlog.tidy()
    assert backlog.stop(5.0) == 0
    assert place.taken == list(range(100))
    fold(backlog, checkpoint)
    checkpoint.close()
    assert left(path) == []

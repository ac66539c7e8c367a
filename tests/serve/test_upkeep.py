"""The upkeep of a state delays no call, and a process that ends within it loses nothing."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.errors import Code, FraudError
from beam_fraud.serve.engine import Engine
from beam_fraud.serve.metrics import Metrics
from beam_fraud.serve.predictions import Call
from beam_fraud.serve.queue import Pace, PredictionQueue
from beam_fraud.serve.state import DEAD, FLAGGED, LABELS
from beam_fraud.state.archive import UnfinishedPart
from beam_fraud.storage import journal
from beam_fraud.storage.checkpoint import LocalCheckpoint
from beam_fraud.storage.journal_file import JournalFile
from tests.failing import fails
from tests.fn_runner import until
from tests.models.registering import other
from tests.serve.conftest import Served
from tests.serve.running import Running, ids, kill


@pytest.fixture
def running(served: Served, tmp_path: Path) -> Running:
    return Running(served, tmp_path)


def answered(engine: Engine, records: list[bytes]) -> list[dict[str, object]]:
    """Answer records one by one, each with a commit."""
    answers = list[dict[str, object]]()
    for record in records:
        group = engine.record([record])
        engine.state.commit()
        engine.state.answers.sent()
        engine.state.forward_flagged(group.recorded)
        answers.append(json.loads(group.answered.json(array=False)))
    return answers


def full(self: object, *changes: object) -> None:
    raise FraudError("the disk is full", Code.OUTPUT_UNWRITABLE)


@pytest.mark.parametrize("in_loop", [False, True], ids=["by the thread", "in the loop"])
def test_calls_are_answered_while_a_fold_does_not_end(
    running: Running, served: Served, in_loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_FOLD_SECONDS", 0.0)
    folds, go = threading.Event(), threading.Event()
    commit = LocalCheckpoint.commit

    def held(self: LocalCheckpoint, positions: dict[str, str]) -> None:
        if threading.current_thread().name == "upkeep":
            folds.set()
            assert go.wait(20)
        commit(self, positions)

    monkeypatch.setattr(LocalCheckpoint, "commit", held)

    async def run() -> None:
        queue = PredictionQueue(Pace(in_loop=in_loop), Metrics(), {})
        queue.start(running.engine())
        await queue.predict(Call(served.records[:1]))
        await asyncio.to_thread(folds.wait, 20)
        # Of one call, and of a large one, which the engine's thread answers in any case.
        for call in (Call(served.records[1:2]), Call(served.records[2:300])):
            await asyncio.wait_for(queue.predict(call), 20)
        go.set()
        await asyncio.to_thread(queue.drain)

    asyncio.run(run())
    assert folds.is_set()
    assert sorted(archived(running)) == sorted(
        str(json.loads(record)["TRANSACTION_ID"]) for record in served.records[:300]
    )


def archived(running: Running) -> list[str]:
    return ids(pq.read_table(running.scores))


def upkeep(engine: Engine) -> Iterator[Callable[[], None]]:
    """Yield the steps of upkeep, each of which may be the last of a process."""
    state = engine.state
    groups = state.answers.groups()
    assert groups is not None
    prepared = groups.prepared()
    yield lambda: None
    yield lambda: state.archive(prepared)
    yield state.commit
    yield state.begin_fold

    def killed() -> None:
        raise KeyboardInterrupt

    def end_fold() -> None:
        with pytest.raises(KeyboardInterrupt):
            state.end_fold(killed)

    yield end_fold
    yield state.end_fold


@pytest.mark.parametrize("last", range(6))
def test_a_process_that_ends_within_upkeep_loses_and_repeats_nothing(
    running: Running, served: Served, last: int
) -> None:
    engine = running.engine()
    records, large = list(served.records[:8]), served.records[8:108]
    before = answered(engine, records[:2])
    rows = engine.record(large).answered.rows
    before += answered(engine, records[2:4])
    for number, step in enumerate(upkeep(engine)):
        step()
        if number == 2:
            # These are in the generation of the journal that a fold ends.
            before += answered(engine, records[4:6])
        if number == last:
            break
    before += answered(engine, records[len(before) :])
    engine.state._checkpoint.close()
    engine = running.engine()
    assert answered(engine, records) == before
    assert engine.record(large).answered.rows.equals(rows)
    engine.state.close(1.0)
    every = [*(str(one["transaction_id"]) for one in before), *ids(rows)]
    assert sorted(archived(running)) == sorted(every)


def test_answers_are_archived_once_whatever_failed_meanwhile(
    running: Running, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = running.engine()
    state = engine.state
    before = answered(engine, list(served.records[:4]))
    groups = state.answers.groups()
    assert groups is not None
    prepared = groups.prepared()
    with monkeypatch.context() as patch:
        patch.setattr(JournalFile, "append", full)
        state.archive(prepared)
        with fails(Code.OUTPUT_UNWRITABLE):
            state.commit()
    # A group that fails reverts what is not committed.
    engine.record(served.records[4:5])
    state.discard()
    assert answered(engine, list(served.records[:6]))[:4] == before
    # A commit that has to fold archives all, also what is being prepared for it.
    groups = state.answers.groups()
    assert groups is not None
    prepared = groups.prepared()
    state.commit(fold=True)
    state.archive(prepared)
    state.close(1.0)
    assert len(archived(running)) == len(set(archived(running))) == 6


def test_a_row_that_waits_for_its_sink_outlives_the_archiving_of_its_answer(
    running: Running, served: Served, tmp_path: Path
) -> None:
    away, before = threading.Event(), set(threading.enumerate())
    taken = list[str]()

    def deliver(rows: pa.RecordBatch) -> None:
        if not away.is_set():
            raise FraudError("the database is away", Code.DATABASE_SILENT)
        taken.extend(ids(rows))

    running.deliveries = {FLAGGED: deliver}
    everything = other(Path(served.bundle), tmp_path / "everything", 0.0)
    engine = running.engine(everything)
    engine.state.start()
    given = answered(engine, list(served.records[:4]))
    for step, _ in zip(upkeep(engine), range(3), strict=False):
        step()
    kill(engine.state)
    assert {one for one in threading.enumerate() if "backlog" in one.name} <= before
    running.deliveries = {FLAGGED: lambda rows: taken.extend(ids(rows))}
    engine = running.engine(everything)
    engine.state.start()
    until(lambda: len(taken) == 4)
    assert taken == [one["transaction_id"] for one in given]
    engine.state.close(1.0)


def test_what_waits_for_its_table_outlives_a_process_that_ends_after_the_commit(
    running: Running,
) -> None:
    """Dead letters and labels cannot be found again among the answers."""
    ended = threading.Event()
    taken = list[str]()

    def refuse(rows: pa.RecordBatch) -> None:
        if not ended.is_set():
            raise FraudError("the database is away", Code.DATABASE_SILENT)

    labels = pa.record_batch({"transaction_id": ["t1", "t2"]})
    running.deliveries = {DEAD: refuse, LABELS: refuse}
    engine = running.engine()
    state = engine.state
    state.start()
    engine.record([b"{"])
    state.take(LABELS, labels)
    state.commit()
    state.take(LABELS, labels)
    state.discard()
    kill(state)
    ended.set()
    running.deliveries = {
        DEAD: lambda rows: taken.extend(map(bytes.decode, rows.column("payload").to_pylist())),
        LABELS: lambda rows: taken.extend(ids(rows)),
    }
    state = running.engine().state
    state.start()
    until(lambda: len(taken) == 3)
    state.close(1.0)
    assert sorted(taken) == ["t1", "t2", "{"]


@pytest.mark.parametrize(
    ("fails_in", "error"),
    [
        ("write", OSError(errno.EIO, os.strerror(errno.EIO))),
        ("finish", pa.ArrowInvalid("not written")),
    ],
    ids=["write", "finish"],
)
def test_a_server_is_not_ready_until_its_archive_is_written(
    running: Running,
    served: Served,
    fails_in: str,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("beam_fraud.serve.upkeep._WORTH_ROWS", 1)
    running.roll_seconds = 0.0 if fails_in == "finish" else 300.0
    tried, broken = list[bool](), threading.Event()
    broken.set()
    works = getattr(UnfinishedPart, fails_in)
    queue = PredictionQueue(Pace(in_loop=True), Metrics(), {})

    def refused(self: UnfinishedPart, *given: pa.RecordBatch) -> Path | None:
        if not broken.is_set():
            result: Path | None = works(self, *given)
            return result
        tried.append(queue.readiness().ready)
        raise error

    monkeypatch.setattr(UnfinishedPart, fails_in, refused)

    async def run() -> None:
        queue.start(running.engine())
        for record in served.records[:3]:
            await queue.predict(Call((record,)))
        # Each attempt comes after a look that had something else to do.
        await asyncio.to_thread(until, lambda: len(tried) >= 4)
        assert not queue.readiness().ready
        # Neither do answers, whose commits succeed, make it ready.
        await queue.predict(Call(served.records[3:4]))
        assert not queue.readiness().ready
        broken.clear()
        await asyncio.to_thread(until, lambda: queue.readiness().ready)
        await asyncio.to_thread(queue.drain)

    asyncio.run(run())
    # The first attempt was refused while nothing was known to be wrong, and so was the one that
    # finishes a file which was closed without the turn.
    unknown = 2 if fails_in == "finish" else 1
    assert tried[:unknown] == [True] * unknown
    assert not any(tried[unknown:])
    assert sorted(archived(running)) == sorted(
        str(json.loads(record)["TRANSACTION_ID"]) for record in served.records[:4]
    )


def test_two_archives_get_the_same_rows_once_though_one_of_them_failed(
    running: Running, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.flagged = tmp_path / "flagged"
    engine = running.engine(other(Path(served.bundle), tmp_path / "everything", 0.0))
    before = answered(engine, list(served.records[:3]))
    groups = engine.state.answers.groups()
    assert groups is not None
    write = UnfinishedPart.write
    with monkeypatch.context() as patch:

        def refused(self: UnfinishedPart, batch: pa.RecordBatch) -> None:
            if "degraded" not in batch.schema.names:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            write(self, batch)

        patch.setattr(UnfinishedPart, "write", refused)
        with fails(Code.OUTPUT_UNWRITABLE, "flagged"):
            engine.state.archive(groups.prepared())
    before += answered(engine, list(served.records[3:5]))
    engine.state.archive(groups.prepared())
    engine.state.close(1.0)
    expected = [one["transaction_id"] for one in before]
    assert archived(running) == expected
    assert ids(pq.read_table(running.flagged)) == expected

"""Calls are joined, late ones get the fallback, and what was answered is what is recorded."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import beam_fraud.serve.group
import beam_fraud.serve.state
from beam_fraud.errors import Code, FraudError
from beam_fraud.models.bundle import load_bundle
from beam_fraud.serve.answered_rows import batch_of
from beam_fraud.serve.answers import Answered
from beam_fraud.serve.engine import Engine
from beam_fraud.serve.group import Group
from beam_fraud.serve.group_commit import Block, Entry
from beam_fraud.serve.metrics import Metrics
from beam_fraud.serve.predictions import Call, Overloaded, Unready
from beam_fraud.serve.queue import Change, Pace, PredictionQueue
from beam_fraud.serve.state import FLAGGED
from beam_fraud.serve.windows import ServerWindows
from beam_fraud.storage.checkpoint import LocalCheckpoint
from beam_fraud.storage.journal_file import JournalFile
from tests.fn_runner import until
from tests.models.registering import other
from tests.serve.conftest import Served
from tests.serve.running import Running, ids


@pytest.fixture
def running(served: Served, tmp_path: Path) -> Running:
    return Running(served, tmp_path)


@pytest.fixture(params=[False, True], ids=["by the thread", "in the loop"])
def pace(request: pytest.FixtureRequest) -> Pace:
    return Pace(in_loop=request.param)


class Slow:
    """Holds an engine's work until it is let go."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        compute, commit = engine.record, engine.state.commit
        self._wanted = ""

        def record(*args: object, **options: object) -> object:
            self._held("record")
            return compute(*args, **options)  # type: ignore[arg-type]

        def committed(**options: object) -> None:
            commit(**options)  # type: ignore[arg-type]
            self._held("commit")

        monkeypatch.setattr(engine, "record", record)
        monkeypatch.setattr(engine.state, "commit", committed)

    def during(self, step: str) -> None:
        """Hold the next call of a step."""
        self._wanted = step
        self.entered.clear()
        self.go.clear()

    def _held(self, step: str) -> None:
        if step == self._wanted:
            self._wanted = ""
            self.entered.set()
            assert self.go.wait(20)


def served_by(
    running: Running,
    use: Callable[[PredictionQueue, Engine], Awaitable[None]],
    pace: Pace | None = None,
    metrics: Metrics | None = None,
    renewed: Callable[[], Change | None] = lambda: None,
) -> Metrics:
    """Answer calls by a queue while `use` runs, then drain it."""
    metrics = metrics or Metrics()
    queue = PredictionQueue(pace or Pace(), metrics, {"model_id": "m"})
    engine = running.engine()

    async def run() -> None:
        queue.start(engine, renewed=renewed)
        try:
            await use(queue, engine)
        finally:
            await asyncio.to_thread(queue.drain)

    asyncio.run(run())
    return metrics


def answer(answers: object) -> dict[str, object]:
    one: dict[str, object] = json.loads(answers.json(array=False))  # type: ignore[attr-defined]
    return one


def archived(running: Running) -> dict[str, dict[str, object]]:
    rows = pq.read_table(running.scores).to_pylist()
    assert len({row["transaction_id"] for row in rows}) == len(rows)
    return {row["transaction_id"]: row for row in rows}


def test_calls_that_wait_are_one_commit(running: Running, served: Served) -> None:
    metrics = Metrics()

    async def use(queue: PredictionQueue, engine: Engine) -> None:
        with pytest.MonkeyPatch.context() as patch:
            slow = Slow(engine, patch)
            slow.during("record")
            first = asyncio.ensure_future(queue.predict(Call(served.records[:1])))
            await asyncio.to_thread(slow.entered.wait, 20)
            calls = [queue.predict(Call([record])) for record in served.records[1:40]]
            others = asyncio.gather(*calls)
            await asyncio.sleep(0)
            before = sum(metrics.stages["commit"].counts)
            slow.go.set()
            answers = [await first, *await others]
        # Figures follow the answers.
        await asyncio.to_thread(until, lambda: sum(metrics.stages["commit"].counts) >= before + 2)
        assert sum(metrics.stages["commit"].counts) == before + 2
        ids = [answer(one)["transaction_id"] for one in answers]
        assert ids == [str(json.loads(record)["TRANSACTION_ID"]) for record in served.records[:40]]

    served_by(running, use, metrics=metrics)
    assert len(archived(running)) == 40


def test_calls_that_arrive_together_are_one_commit_in_the_loop(
    running: Running, served: Served
) -> None:
    threads, sizes = set[str](), list[int]()

    async def use(queue: PredictionQueue, engine: Engine) -> None:
        with pytest.MonkeyPatch.context() as patch:
            compute = engine.record

            def record(some: Sequence[bytes], *args: object, **options: object) -> Group:
                threads.add(threading.current_thread().name)
                sizes.append(len(some))
                return compute(some, *args, **options)  # type: ignore[arg-type]

            patch.setattr(engine, "record", record)
            answers = await asyncio.gather(
                *(queue.predict(Call([record])) for record in served.records[:40])
            )
        ids = [answer(one)["transaction_id"] for one in answers]
        assert ids == [str(json.loads(record)["TRANSACTION_ID"]) for record in served.records[:40]]

    served_by(running, use, Pace(in_loop=True))
    assert (threads, sizes) == ({"MainThread"}, [40])
    assert len(archived(running)) == 40


@pytest.mark.parametrize("behind", [False, True], ids=["alone", "with a call of the thread's"])
def test_calls_wait_in_the_loop_while_the_engine_is_busy(
    running: Running, served: Served, behind: bool
) -> None:
    threads, sizes = set[str](), list[int]()

    async def use(queue: PredictionQueue, engine: Engine) -> None:
        with pytest.MonkeyPatch.context() as patch:
            slow, compute = Slow(engine, patch), engine.state.windows.known

            def known(some: pa.RecordBatch) -> list[bool]:
                slow._held("known")
                return compute(some)

            patch.setattr(engine.state.windows, "known", known)
            slow.during("known")
            # Calls that are only scored are the thread's.
            scored = [asyncio.ensure_future(queue.predict(Call(served.records[:1], record=False)))]
            await asyncio.to_thread(slow.entered.wait, 20)
            record_held = engine.record

            def record(some: Sequence[bytes], *args: object, **options: object) -> Group:
                threads.add(threading.current_thread().name)
                sizes.append(len(some))
                return record_held(some, *args, **options)  # type: ignore[arg-type]

            patch.setattr(engine, "record", record)
            waits = [
                asyncio.ensure_future(queue.predict(Call([one], alone=alone)))
                for one, alone in zip(served.records[1:4], (True, False, False), strict=True)
            ]
            if behind:
                call = Call(served.records[:1], record=False)
                scored.append(asyncio.ensure_future(queue.predict(call)))
            await asyncio.sleep(0.01)
            assert not any(one.done() for one in waits)
            slow.go.set()
            await asyncio.wait_for(asyncio.gather(*scored, *waits), 20)

    served_by(running, use, Pace(in_loop=True))
    # Whoever is first has the turn where both want it.
    assert behind or (threads, sizes) == ({"MainThread"}, [3])
    assert len(archived(running)) == sum(sizes) == 3


def test_large_calls_that_wait_are_one_group_without_single_rows(
    running: Running, served: Served
) -> None:
    sizes = list[int]()

    async def use(queue: PredictionQueue, engine: Engine) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("beam_fraud.serve.queue.LARGE_CALL", 64)
            patch.setattr("beam_fraud.serve.queue._GROUP_ROWS_OF_LARGE", 200)
            slow, records, start = Slow(engine, patch), served.records, 1
            slow.during("record")
            first = asyncio.ensure_future(queue.predict(Call(records[:1])))
            await asyncio.to_thread(slow.entered.wait, 20)
            held, held_read = engine.record, engine.record_read

            def record(some: Sequence[bytes], *args: object, **options: object) -> Group:
                sizes.append(len(some))
                return held(some, *args, **options)  # type: ignore[arg-type]

            def record_read(parts: Sequence[Any], *args: Any, **options: Any) -> Group | None:
                sizes.append(sum(len(part.rows) for part in parts))
                return held_read(parts, *args, **options)

            patch.setattr(engine, "record", record)
            patch.setattr(engine, "record_read", record_read)
            calls = []
            for rows in (80, 80, 70, 1, 1, 64):
                calls.append(asyncio.ensure_future(queue.predict(Call(records[start:][:rows]))))
                start += rows
            await asyncio.sleep(0)
            slow.go.set()
            await first
            answers = [a for call in calls for a in json.loads((await call).json(array=True))]
        wanted = [str(json.loads(record)["TRANSACTION_ID"]) for record in records[1:start]]
        assert [one["transaction_id"] for one in answers] == wanted

    served_by(running, use)
    assert sizes == [160, 70, 66]
    assert len(archived(running)) == 297


def test_large_tables_and_arrays_are_one_group(running: Running, served: Served) -> None:
    """One with a faulty row is a group of its own; only who asked gets the model's input."""
    groups, start = list[int](), 1
    table = pq.read_table(served.later).drop_columns(["TX_FRAUD"]).combine_chunks().to_batches()[0]
    calls = list[Call]()
    for rows, kind in ((80, "table"), (70, "array"), (40, "faulty"), (60, "array"), (64, "table")):
        part = table.slice(start, rows)
        if kind == "faulty":
            place = part.schema.get_field_index("TX_AMOUNT")
            amounts = pa.array([None, *part.column(place).to_pylist()[1:]], pa.float64())
            part = part.set_column(place, "TX_AMOUNT", amounts)
        if kind == "array":
            calls.append(Call(served.records[start : start + rows], features=rows == 70))
        else:
            calls.append(Call((), part))
        start += rows

    async def use(queue: PredictionQueue, engine: Engine) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("beam_fraud.serve.queue.LARGE_CALL", 20)
            slow, recorded = Slow(engine, patch), engine._recorded
            slow.during("record")
            first = asyncio.ensure_future(queue.predict(Call(served.records[:1])))
            await asyncio.to_thread(slow.entered.wait, 20)

            def noted(*args: Any, **options: Any) -> Group:
                groups.append(args[2])
                return recorded(*args, **options)

            patch.setattr(engine, "_recorded", noted)
            waits = [asyncio.ensure_future(queue.predict(call)) for call in calls]
            await asyncio.sleep(0)
            slow.go.set()
            await first
            answers = [await one for one in waits]
        tables = [pa.ipc.open_stream(one.ipc()).read_all() for one in answers]
        names = [name for one in tables for name in one.column("transaction_id").to_pylist()]
        wanted = [json.loads(record)["TRANSACTION_ID"] for record in served.records[1:start]]
        assert names == [None if at == 150 else str(name) for at, name in enumerate(wanted)]
        faults = [one.column("error_field").to_pylist() for one in tables]
        assert faults[2] == ["TX_AMOUNT", *[None] * 39]
        asked = [any(name.startswith("feature_") for name in one.column_names) for one in tables]
        assert asked == [False, True, False, False, False]

    served_by(running, use)
    assert groups == [150, 40, 124]
    assert len(archived(running)) == start - 1


class Looked(Entry):
    """Counts how often somebody looks at its call."""

    looks = 0

    def __getattribute__(self, name: str) -> Any:
        Looked.looks += name == "call"
        return super().__getattribute__(name)


@pytest.mark.parametrize("kind", ["records", "tables"])
def test_to_join_calls_looks_at_each_a_few_times(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Looked, "looks", 0)
    table = pa.RecordBatch.from_pydict({"id": ["1"]})
    call = Call((b"{}",)) if kind == "records" else Call((), table)
    entries = [Looked(call, Mock()) for _ in range(200)]
    read, reads = Future[Any](), list[object]()
    read.set_result(None)
    queue = PredictionQueue(Pace(), Metrics(), {})
    for entry in entries:
        entry.read = read
        queue._queue.put(entry)

    def has_read(part: object) -> bool:
        reads.append(part)
        return True

    engine = Mock(has_read=has_read)
    first = queue._queue.get()
    assert isinstance(first, Entry)
    assert queue._joined(engine, first) == entries
    assert Looked.looks < 10 * len(entries)
    assert len(reads) == (0 if kind == "records" else len(entries))


def test_what_cannot_be_read_ahead_is_answered_in_its_turn(
    running: Running, served: Served
) -> None:
    turns = list[int]()

    async def use(queue: PredictionQueue, engine: Engine) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("beam_fraud.serve.queue.LARGE_CALL", 20)
            go, read, record = threading.Event(), engine.read, engine.record

            def fails(records: Sequence[bytes]) -> object:
                go.wait(20)
                if len(records) == 30:
                    raise MemoryError("no room")
                return read(records)

            def noted(records: Sequence[bytes], *args: Any, **options: Any) -> Group:
                turns.append(len(records))
                return record(records, *args, **options)

            patch.setattr(engine, "read", fails)
            patch.setattr(engine, "record", noted)
            calls, start = [], 0
            for rows in (30, 1, 20, 2):
                calls.append(
                    asyncio.ensure_future(queue.predict(Call(served.records[start:][:rows])))
                )
                start += rows
            await asyncio.sleep(0)
            go.set()
            answers = [a for call in calls for a in json.loads((await call).json(array=True))]
        wanted = [str(json.loads(record)["TRANSACTION_ID"]) for record in served.records[:start]]
        assert [one["transaction_id"] for one in answers] == wanted

    served_by(running, use)
    # Rows that come later wait for the array before them.
    assert turns == [30, 23]


@pytest.mark.parametrize("step", ["record", "commit"])
def test_a_late_call_gets_the_fallback_which_is_recorded(
    running: Running, served: Served, step: str
) -> None:
    """Whether the deadline passes before the engine begins, or while the disk is slow."""
    got: list[dict[str, object]] = []

    async def use(queue: PredictionQueue, engine: Engine) -> None:
        with pytest.MonkeyPatch.context() as patch:
            slow = Slow(engine, patch)
            slow.during(step)
            got.append(answer(await queue.predict(Call(served.records[:1]))))
            slow.go.set()
            got.append(answer(await queue.predict(Call(served.records[:1]))))

    metrics = served_by(running, use, Pace(deadline=0.5))
    first, again = got
    assert first["degraded"] == again["degraded"] == "timeout"
    assert first["decision"] == again["decision"]
    assert first["score"] is None
    assert again["score"] is not None
    (row,) = archived(running).values()
    assert row["degraded"] == "timeout"
    assert row["decision"] == first["decision"]
    assert metrics.degraded["timeout"] >= 1


def test_a_queue_that_is_full_sheds(running: Running, served: Served) -> None:
    async def use(queue: PredictionQueue, engine: Engine) -> None:
        with pytest.MonkeyPatch.context() as patch:
            slow = Slow(engine, patch)
            slow.during("record")
            first = asyncio.ensure_future(queue.predict(Call(served.records[:3])))
            await asyncio.to_thread(slow.entered.wait, 20)
            with pytest.raises(Overloaded):
                await queue.predict(Call(served.records[3:4]))
            slow.go.set()
            await first
        # Afterwards there is room again.
        await queue.predict(Call(served.records[3:4]))

    metrics = served_by(running, use, Pace(waiting_rows=2))
    assert metrics.shed == {"queue": 1}
    assert len(archived(running)) == 4


def test_a_full_disk_is_marked_and_made_up_for(
    running: Running, served: Served, pace: Pace
) -> None:
    async def use(queue: PredictionQueue, engine: Engine) -> None:
        def full(self: LocalCheckpoint, *changes: object) -> None:
            raise FraudError("the disk is full", Code.OUTPUT_UNWRITABLE)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(JournalFile, "append", full)
            patch.setattr(LocalCheckpoint, "commit", full)
            marked = answer(await queue.predict(Call(served.records[:1])))
            assert marked["degraded"] == "not_stored"
            assert marked["score"] is not None
            assert not queue.readiness().ready
        assert "degraded" not in answer(await queue.predict(Call(served.records[1:2])))
        assert queue.readiness().ready
        # A repeat gets the answer that was given, not the one that was computed.
        assert answer(await queue.predict(Call(served.records[:1]))) == marked

    served_by(running, use, pace)
    assert len(archived(running)) == 2


def test_a_failure_costs_its_calls_alone(running: Running, served: Served, pace: Pace) -> None:
    async def use(queue: PredictionQueue, engine: Engine) -> None:
        def fails(*args: object, **options: object) -> object:
            raise ZeroDivisionError

        with pytest.MonkeyPatch.context() as patch:
            for way in ("observe", "take_new"):
                patch.setattr(ServerWindows, way, fails)
            failed = answer(await queue.predict(Call(served.records[:1])))
            assert failed["degraded"] == "failed"
            assert failed["decision"] in ("approve", "review")
        whole = answer(await queue.predict(Call(served.records[:1])))
        assert "degraded" not in whole

    served_by(running, use, pace)
    assert len(archived(running)) == 1


def test_a_failure_of_the_fallback_as_well_costs_its_call_alone(
    running: Running, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    nested = pa.RecordBatch.from_pylist([{"TRANSACTION_ID": ["secret"], "TX_AMOUNT": 1.0}])

    async def use(queue: PredictionQueue, engine: Engine) -> None:
        for record in (True, False):
            with pytest.raises(Exception):  # noqa: B017  # whatever the kernels raise
                await asyncio.wait_for(queue.predict(Call((), nested, record)), 20)
        assert "degraded" not in answer(await queue.predict(Call(served.records[:1])))

    served_by(running, use)
    assert "secret" not in caplog.text
    assert "Traceback" not in caplog.text


def test_a_failure_after_the_commit_costs_its_calls_alone(
    running: Running, served: Served, pace: Pace
) -> None:
    async def use(queue: PredictionQueue, engine: Engine) -> None:
        def fails(rows: object) -> object:
            raise ZeroDivisionError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Answered, "with_encoded", fails)
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(queue.predict(Call(served.records[:1])), 20)
        again = answer(await asyncio.wait_for(queue.predict(Call(served.records[:1])), 20))
        assert "degraded" not in again

    served_by(running, use, pace)
    assert len(archived(running)) == 1


def test_an_engine_that_has_ended_refuses_calls_and_says_so(
    running: Running, served: Served, pace: Pace, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(queue: PredictionQueue, engine: Engine) -> None:
        assert queue.readiness().alive
        # No rows at all: an error that no call causes.
        queue.follow(Block(None, {}, lambda: None))
        for _ in range(2):
            with pytest.raises(Unready):
                await asyncio.wait_for(queue.predict(Call(served.records[:1])), 20)
        readiness = queue.readiness()
        assert (readiness.ready, readiness.alive) == (False, False)

    served_by(running, use, pace)
    assert "the engine has ended" in caplog.text


def test_another_engine_answers_from_the_next_group_on(
    running: Running, served: Served, tmp_path: Path
) -> None:
    running.rule_limit = 0.5
    stricter = other(Path(served.bundle), tmp_path / "stricter", 0.0)
    got: list[dict[str, object]] = []
    changes = list[Change]()

    async def use(queue: PredictionQueue, engine: Engine) -> None:
        taken = list[int]()
        change = Change(running.engine(stricter, engine.state), {"model_id": "other"}, taken.append)
        with pytest.MonkeyPatch.context() as patch:
            slow = Slow(engine, patch)
            slow.during("record")
            computed = asyncio.ensure_future(queue.predict(Call(served.records[:1])))
            await asyncio.to_thread(slow.entered.wait, 20)
            waits = asyncio.ensure_future(queue.predict(Call(served.records[1:2])))
            await asyncio.sleep(0)
            changes.append(change)
            slow.go.set()
            await asyncio.gather(computed, waits)
            later = await queue.predict(Call(served.records[2:4]))
        got.extend(answer(one) for one in (await computed, await waits))
        got.extend(json.loads(later.json(array=True)))
        got.append(answer(await queue.predict(Call(served.records[:1]))))
        assert queue.readiness().model_id == "other"
        assert len(taken) == 1

    served_by(running, use, renewed=lambda: changes.pop() if changes else None)
    first, second = load_bundle(served.bundle).model_id, load_bundle(str(stricter)).model_id
    assert [row["model_id"] for row in got] == [first, second, second, second, first]
    assert got[4] == got[0]
    assert all(row["flagged"] for row in got[1:4])
    rows = archived(running)
    assert [rows[str(row["transaction_id"])]["model_id"] for row in got[:4]] == [
        row["model_id"] for row in got[:4]
    ]


def test_an_answer_from_the_archive(running: Running, served: Served, pace: Pace) -> None:
    got: list[dict[str, object]] = []

    async def use(queue: PredictionQueue, engine: Engine) -> None:
        got.append(answer(await queue.predict(Call(served.records[:1]))))

    served_by(running, use, pace)
    served_by(running, use, pace)
    assert got[0] == got[1]


@pytest.mark.parametrize("sink", [False, True], ids=["no sink", "a sink"])
def test_flagged_answers_become_columns_once_and_for_a_sink_alone(
    running: Running, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sink: bool
) -> None:
    # The next call waits for them.
    made, taken = Mock(wraps=batch_of), list[pa.RecordBatch]()
    for module in (beam_fraud.serve.group, beam_fraud.serve.state):
        monkeypatch.setattr(module, "batch_of", made)
    everything = other(Path(served.bundle), tmp_path / "everything", 0.0)
    running.served = replace(served, bundle=str(everything))
    if sink:
        running.deliveries = {FLAGGED: taken.append}

    async def use(queue: PredictionQueue, engine: Engine) -> None:
        for record in served.records[:3]:
            assert answer(await queue.predict(Call([record])))["flagged"]

    served_by(running, use, Pace(in_loop=True))
    assert made.call_count == (3 if sink else 0)
    assert [name for rows in taken for name in ids(rows)] == [
        str(json.loads(record)["TRANSACTION_ID"]) for record in served.records[: 3 * sink]
    ]


def test_nothing_is_answered_before_and_after(running: Running, served: Served) -> None:
    queue = PredictionQueue(Pace(), Metrics(), {})
    with pytest.raises(Unready):
        asyncio.run(queue.predict(Call(served.records[:1])))
    assert not queue.readiness().ready

    async def use(queue: PredictionQueue, engine: Engine) -> None:
        await asyncio.to_thread(queue.drain)
        with pytest.raises(Unready):
            await queue.predict(Call(served.records[:1]))

    queue = PredictionQueue(Pace(), Metrics(), {})
    engine = running.engine()

    async def run() -> None:
        queue.start(engine)
        await use(queue, engine)

    asyncio.run(run())

"""The engine answers as `score` does, remembers what it answered, and survives a restart."""

from __future__ import annotations

import errno
import itertools
import json
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import beam_fraud as bf
from beam_fraud.errors import Code, FraudError
from beam_fraud.records.plain_records import JsonArray
from beam_fraud.schema.stages import LATER_COLUMNS, SCORED
from beam_fraud.serve import kept_answers
from beam_fraud.serve.answered_rows import (
    ANSWERED,
    AnsweredRows,
    Block,
    Rows,
    answers_json,
    batch_of,
    scored_of,
)
from beam_fraud.serve.answers import Answered
from beam_fraud.serve.archive import find_answers
from beam_fraud.serve.engine import Engine
from beam_fraud.serve.few_records import FEW
from beam_fraud.serve.freshness import STALE
from beam_fraud.serve.group import TIMEOUT, marked
from beam_fraud.serve.predictions import Call
from beam_fraud.serve.recent_answers import LARGE
from beam_fraud.serve.state import DEAD, FLAGGED
from beam_fraud.state.local_shards import LocalShards
from beam_fraud.state.shard import Shard, rows_to_bytes
from beam_fraud.state.window_sets import WindowSetsShard
from beam_fraud.storage.journal import JournaledCheckpoint
from tests.earlier import earlier, make_earlier
from tests.fn_runner import until
from tests.serve.conftest import Served
from tests.serve.running import Running, ids


@pytest.fixture
def running(served: Served, tmp_path: Path) -> Running:
    return Running(served, tmp_path)


@pytest.fixture(scope="session")
def expected(served: Served) -> pa.Table:
    """The rows of `score`, in the order of the requests."""
    table = bf.score(
        pq.read_table(served.later), served.bundle, history=served.history, rules=served.rules
    )
    assert isinstance(table, pa.Table)
    return table


def answer(engine: Engine, *records: bytes) -> list[dict[str, object]]:
    group = engine.record(records)
    engine.state.commit()
    answers: list[dict[str, object]] = json.loads(group.answered.json(array=True))
    return answers


def answered(engine: Engine, records: tuple[bytes, ...], sizes: list[int]) -> list[pa.RecordBatch]:
    start, rows = 0, []
    for size in sizes:
        group = engine.record(records[start : start + size])
        engine.state.commit()
        rows.append(group.answered.rows)
        start += size
    return rows


def table_of(served: Served) -> pa.RecordBatch:
    table = pq.read_table(served.later).drop_columns(["TX_FRAUD"]).combine_chunks()
    return table.to_batches()[0]


def test_rows_one_by_one_are_those_of_score(
    running: Running, served: Served, expected: pa.Table
) -> None:
    engine = running.engine()
    rows = answered(engine, served.records, [1] * len(served.records))
    assert pa.Table.from_batches([scored_of(batch) for batch in rows]).equals(expected)
    assert any(expected.column("flagged").to_pylist())
    assert any(expected.column("shadow_rules").to_pylist())
    engine.state.close(1.0)
    archived = pq.read_table(running.scores).select(SCORED.names).cast(SCORED)
    assert archived.equals(expected)


def test_records_that_were_read_before_get_the_same_answers(
    running: Running, served: Served, expected: pa.Table
) -> None:
    engine, half = running.engine(), len(served.records) // 2
    body = b"[" + b" , ".join(served.records[:half]) + b"]"
    first = JsonArray(body, msgspec.json.decode(body, type=list[msgspec.Raw]))
    assert (*first, first[0], *first[1:3]) == (*served.records[:half], *served.records[:3])
    second = table_of(served).slice(half)
    group = engine.record_read([engine.read(first), engine.read_table(second)])
    assert group is not None
    rows = scored_of(group.answered.rows)
    assert pa.Table.from_batches([rows]).equals(expected)
    again = engine.record_read([engine.read(first)])
    assert again is not None
    assert not len(again.recorded)
    assert again.answered.rows.equals(group.answered.rows.slice(0, len(first)))
    # Another model may read other columns.
    another = running.engine(over=engine.state)
    assert another.record_read([engine.read(first)]) is None
    assert another.record_read([engine.read_table(second)]) is None
    assert engine.read([*first, b"{}"]) is None
    place = second.schema.get_field_index("TX_AMOUNT")
    faulty = second.set_column(place, "TX_AMOUNT", pa.nulls(len(second), pa.float64()))
    assert engine.read_table(faulty) is None


def test_values_have_the_text_of_columns(running: Running, served: Served) -> None:
    engine, flagged = running.engine(), 0
    for start in range(0, len(served.records), 3):
        answers = engine.record(served.records[start : start + 3]).answered
        engine.state.commit()
        assert isinstance(answers.given, AnsweredRows)
        assert answers.given.json() == answers_json(answers.rows)
        flagged += sum(answers.rows.column("flagged").to_pylist())
    assert flagged
    engine.state.close(1.0)


def test_known_frauds_as_values_count_as_in_columns(served: Served, tmp_path: Path) -> None:
    first = json.loads(served.records[0])
    begin = datetime.fromisoformat(first["TX_DATETIME"])

    def record(number: int, days: int, fraud: int | None = None) -> bytes:
        at = begin + timedelta(days=days, minutes=number)
        changed = {"TRANSACTION_ID": f"{days}-{number}", "TX_DATETIME": at.isoformat()}
        return json.dumps(first | changed | {"TX_FRAUD": fraud, "TERMINAL_ID": number % 5}).encode()

    records = [record(number, 0, int(number % 3 == 0)) for number in range(28)]
    # After the delay of the terminals' windows.
    records += [record(number, 8) for number in range(12)]
    blocks = dict[str, list[Block]]()
    for way, few in (("values", FEW), ("columns", 0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("beam_fraud.serve.engine.FEW", few)
            (tmp_path / way).mkdir()
            running = Running(served, tmp_path / way)
            engine, start, blocks[way] = running.engine(), 0, []
            for size in (1, 7, 20, 12):
                answered = engine.record(records[start : start + size], features=True).answered
                assert isinstance(answered.given, AnsweredRows) is (few > 0)
                assert answered.features is not None
                blocks[way].append(answered.features.block)
                engine.state.commit()
                start += size
            names = answered.features.names
            # As if it was killed: the journal has the frauds.
            engine.state._checkpoint.close()
            engine = running.engine()
            again = engine.peek([record(20, 8)], features=True).answered.features
            assert again is not None
            blocks[way].append(again.block)
            engine.state.close(1.0)
    assert [b.tobytes() for b in blocks["values"]] == [b.tobytes() for b in blocks["columns"]]
    risk = names.index("merchant_risk_30d_delay_7d")
    assert all(block[:, risk].any() for block in blocks["values"][-2:])


def test_a_withheld_row_changes_later_features(running: Running, served: Served) -> None:
    """The negative control: the comparisons of this file find one missing row."""
    account = json.loads(served.records[0])["CUSTOMER_ID"]
    later = next(r for r in served.records[1:] if json.loads(r)["CUSTOMER_ID"] == account)
    engine = running.engine()
    without = engine.peek([later], features=True).answered.features
    engine.record(served.records[:1])
    with_it = engine.peek([later], features=True).answered.features
    assert without is not None
    assert with_it is not None
    count = with_it.names.index("account_count_30d")
    assert with_it.block[0, count] == without.block[0, count] + 1
    engine.state.close(1.0)


@settings(max_examples=5)
@given(sizes=st.lists(st.integers(1, 90), min_size=10, max_size=40), restart=st.integers(0, 5))
def test_groups_and_restarts_change_nothing(
    served: Served,
    expected: pa.Table,
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    restart: int,
) -> None:
    running = Running(served, tmp_path_factory.mktemp("grouped"))
    engine, start, rows = running.engine(), 0, []
    for number, size in enumerate(sizes):
        records = served.records[start : start + size]
        if not records:
            break
        if number == restart:
            # As if the process was killed: nothing is closed properly.
            engine.state.commit()
            engine.state._checkpoint.close()
            engine = running.engine()
        rows += answered(engine, records, [len(records)])
        start += size
    table = pa.Table.from_batches([scored_of(batch) for batch in rows])
    assert table.equals(expected.slice(0, len(table)))
    engine.state.close(1.0)
    assert sorted(ids(pq.read_table(running.scores))) == sorted(ids(table))


def test_an_id_that_comes_again_gets_its_answer(running: Running, served: Served) -> None:
    engine = running.engine()
    first, second = served.records[:2]
    (before,) = answer(engine, first)
    again, other, twice = answer(engine, first, second, second)
    assert again == before
    assert other == twice
    assert running.counted["rows_duplicate"] == 2
    # Also after a restart, by memory and by the archive.
    engine.state.close(1.0)
    engine = running.engine()
    group = engine.record([second])
    assert group.archived == {0: other["transaction_id"]}
    found = find_answers(running.scores, {str(other["transaction_id"])})
    complete = group.answered.with_archived(group.archived, found)
    assert json.loads(complete.json(array=False)) == other
    engine.state.close(1.0)


@pytest.mark.parametrize("size", [1, 30, 90])
def test_a_state_and_files_of_an_earlier_version_go_on(
    running: Running, served: Served, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state without the columns of rules: as values, as columns, and compressed."""
    given: list[dict[str, object]] = []

    def old_delta(rows: Rows, *, amended: bool = False) -> bytes:
        old = earlier(batch_of(rows))
        if isinstance(rows, AnsweredRows):
            place = ANSWERED.get_field_index(LATER_COLUMNS[0])
            values = [row[:place] + row[place + len(LATER_COLUMNS) :] for row in rows.values]
            return b"V" + msgspec.msgpack.encode(values)
        if size < LARGE:
            return b"G" + bytes(old.serialize())
        return b"g" + rows_to_bytes(old)

    monkeypatch.setattr(kept_answers, "delta_of", old_delta)
    engine = running.engine()
    given += answer(engine, *served.records[:size])
    # As if the process was killed.
    engine.state._checkpoint.close()
    monkeypatch.undo()
    engine = running.engine()
    again = answer(engine, *served.records[:size])
    of_rules = {"rules_id": None, "shadow_rules": []}
    assert again == [{**before, **of_rules} for before in given]
    engine.state.close(1.0)
    assert make_earlier(running.scores)
    found = find_answers(running.scores, {str(row["transaction_id"]) for row in given})
    assert found.schema.equals(ANSWERED)
    assert len(found) == size
    assert found.column("rules_id").null_count == size


def test_an_answer_that_the_archive_lost_is_a_fault(running: Running, served: Served) -> None:
    engine = running.engine()
    answer(engine, served.records[0])
    engine.state.close(1.0)
    for part in running.scores.glob("*.parquet"):
        part.unlink()
    engine = running.engine()
    group = engine.record(served.records[:1])
    found = find_answers(running.scores, set(group.archived.values()))
    assert group.answered.with_archived(group.archived, found).problem().code == "duplicate"
    engine.state.close(1.0)


def test_a_score_alone_changes_nothing(
    running: Running, served: Served, expected: pa.Table
) -> None:
    engine = running.engine()
    for _ in range(2):
        for record in served.records[:5]:
            engine.peek([record])
    group = engine.peek(served.records[:3])
    alone = [engine.peek([record]).answered.rows for record in served.records[:3]]
    assert scored_of(group.answered.rows).equals(scored_of(pa.concat_batches(alone)))
    rows = answered(engine, served.records, [1] * len(served.records))
    assert pa.Table.from_batches([scored_of(batch) for batch in rows]).equals(expected)
    # A recorded transaction has its answer.
    assert scored_of(engine.peek(served.records[:1]).answered.rows).equals(scored_of(rows[0]))
    engine.state.close(1.0)


def test_the_features_are_those_of_the_command(running: Running, served: Served) -> None:
    engine = running.engine()
    with_history = bf.features(
        pq.read_table(served.later),
        bf.load_bundle(served.bundle).schema,
        history=served.history,
    )
    group = engine.record(served.records[:50], features=True)
    assert group.answered.features is not None
    for place, name in enumerate(group.answered.features.names):
        mine = group.answered.features.block[:, place]
        assert np.array_equal(mine, with_history.column(name).to_numpy()[:50], equal_nan=True)
    (first, *_) = json.loads(group.answered.json(array=True))
    assert set(first["features"]) == set(group.answered.features.names)


def test_bad_records_cost_themselves_alone(running: Running, served: Served) -> None:
    taken: dict[str, list[str]] = {DEAD: [], FLAGGED: []}
    running.deliveries = {
        DEAD: lambda rows: taken[DEAD].extend(rows.column("reason").to_pylist()),
    }
    engine = running.engine()
    engine.state.start()
    bad = json.loads(served.records[1]) | {"TX_AMOUNT": "much"}
    records = [served.records[0], json.dumps(bad).encode(), b"{", served.records[2]]
    good, wrong, broken, last = answer(engine, *records)
    assert wrong["error"]["code"] == "wrong_type"
    assert wrong["error"]["field"] == "TX_AMOUNT"
    assert broken["error"]["code"] == "malformed"
    assert "much" not in json.dumps(wrong)
    assert "score" in good
    assert "score" in last
    assert running.counted["rows_in"] == 4
    assert running.counted["rows_scored"] + running.counted["rows_dead"] == 4
    engine.state.close(5.0)
    dead = pq.read_table(running.directory / "dead")
    assert dead.column("reason").to_pylist() == ["wrong_type", "malformed"]
    assert dead.column("source").to_pylist() == [engine.state.source] * 2
    assert len(set(dead.column("position").to_pylist())) == 2


def test_late_calls_are_recorded_with_the_fallback(running: Running, served: Served) -> None:
    engine = running.engine()
    late = np.array([True, False, True])
    group = engine.record(served.records[:3], late)
    engine.state.commit()
    amounts = group.new.column("amount").to_pylist()
    marks = group.new.column("degraded").to_pylist()
    assert marks == [TIMEOUT, None, TIMEOUT]
    for row in (0, 2):
        decision = "approve" if amounts[row] < 100 else "review"
        assert group.new.column("decision")[row].as_py() == decision
    engine.state.close(1.0)


def test_a_late_repeat_gets_the_answer_of_before(running: Running, served: Served) -> None:
    engine, call = running.engine(), Call(served.records[:2])
    group = engine.record(served.records[:1])
    engine.state.commit()
    # Its own deadline passes: what was computed is not what its caller gets.
    assert engine.fallbacks(call, TIMEOUT).rows.column("degraded").to_pylist() == [TIMEOUT] * 2
    engine.state.answers.sent()
    rows = engine.fallbacks(call, TIMEOUT).rows
    assert rows.slice(0, 1).equals(group.answered.rows)
    assert rows.column("degraded").to_pylist() == [None, TIMEOUT]
    engine.record(served.records[2:3])
    engine.state.discard()
    (row,) = engine.fallbacks(Call(served.records[2:3]), TIMEOUT).rows.to_pylist()
    assert row["degraded"] == TIMEOUT
    engine.state.close(1.0)


@pytest.mark.parametrize("rows", [2, 100])
@pytest.mark.parametrize("fold", [False, True])
def test_an_amended_group_is_what_the_archive_holds(
    running: Running, served: Served, fold: bool, rows: int
) -> None:
    engine = running.engine()
    group = engine.record(served.records[:rows])
    engine.state.commit(fold=fold)
    amended = engine.defaulted(group.new, np.full(rows, True), TIMEOUT)
    engine.state.answers.amend(amended)
    engine.state.commit()
    assert {one["degraded"] for one in answer(engine, *served.records[:rows])} == {TIMEOUT}
    engine.state._checkpoint.close()
    engine = running.engine()
    assert {one["degraded"] for one in answer(engine, *served.records[:rows])} == {TIMEOUT}
    engine.state.close(1.0)
    assert pq.read_table(running.scores).column("degraded").to_pylist() == [TIMEOUT] * rows


@pytest.mark.parametrize("rows", [3, 100])
def test_a_failed_group_leaves_no_trace(
    running: Running, served: Served, expected: pa.Table, rows: int
) -> None:
    engine = running.engine()
    engine.record(served.records[:rows])
    engine.state.discard()
    rows = answered(engine, served.records, [1] * len(served.records))
    assert pa.Table.from_batches([scored_of(batch) for batch in rows]).equals(expected)
    engine.state.close(1.0)


@pytest.mark.parametrize("failing", [1, 2])
@pytest.mark.parametrize(
    ("rows", "method"), [(3, "observe_values"), (20, "observe_rows"), (100, "observe")]
)
def test_windows_that_fail_leave_no_trace(
    running: Running, served: Served, expected: pa.Table, rows: int, method: str, failing: int
) -> None:
    """Neither in the windows that fail, nor in those of another key."""
    engine, real = running.engine(), getattr(WindowSetsShard, method)
    calls = itertools.count(1)

    def fails(windows: WindowSetsShard, *arguments: object) -> object:
        result = real(windows, *arguments)
        if next(calls) == failing:
            raise FraudError("more keys than there is room for", Code.VELOCITY_LIMIT)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WindowSetsShard, method, fails)
        patch.setattr("beam_fraud.serve.side_by_side._ENOUGH", 50)
        with pytest.raises(FraudError, match="more keys"):
            engine.record(served.records[:rows])
    engine.state.discard()
    batches = answered(engine, served.records, [1] * len(served.records))
    assert pa.Table.from_batches([scored_of(batch) for batch in batches]).equals(expected)
    engine.state.close(1.0)


def test_an_engine_that_is_made_meanwhile_uses_no_shard(
    running: Running, served: Served, expected: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that prepares another model may come between any two steps of a group."""
    engine, keep, shard = running.engine(), JournaledCheckpoint.keep, LocalShards.shard
    calls, others = itertools.count(), list[str]()

    def prepare() -> None:
        running.engine(over=engine.state).rehearse(served.records[0], {})

    def keeps(checkpoint: JournaledCheckpoint, *arguments: Any, **options: Any) -> None:
        keep(checkpoint, *arguments, **options)
        if next(calls) % 100 == 0:
            thread = threading.Thread(target=prepare, name="watch")
            thread.start()
            thread.join()

    def used(shards: LocalShards, number: int) -> Shard:
        if threading.current_thread().name == "watch":
            others.append(shards._step)
        return shard(shards, number)

    monkeypatch.setattr(JournaledCheckpoint, "keep", keeps)
    monkeypatch.setattr(LocalShards, "shard", used)
    rows = answered(engine, served.records, [1] * len(served.records))
    assert next(calls) > 200
    assert others == []
    assert pa.Table.from_batches([scored_of(batch) for batch in rows]).equals(expected)
    engine.state.close(1.0)


def test_stale_windows_are_not_used(running: Running, served: Served) -> None:
    running.degraded = lambda: STALE
    engine = running.engine()
    group = engine.record(served.records[:2], features=True)
    assert group.answered.rows.column("degraded").to_pylist() == [STALE, STALE]
    features = group.answered.features
    assert features is not None
    windows = [place for place, name in enumerate(features.names) if name.startswith("account_")]
    assert windows
    assert np.isnan(features.block[:, windows]).all()
    engine.state.close(1.0)


def test_flagged_rows_are_delivered_once_more_after_a_kill(
    running: Running, served: Served, expected: pa.Table
) -> None:
    taken: list[str] = []
    engine = running.engine()
    rows = answered(engine, served.records, [100] * 4)
    flagged = [name for batch in rows for name in ids(batch.filter(batch.column("flagged")))]
    engine.state._checkpoint.close()
    running.deliveries = {FLAGGED: lambda batch: taken.extend(ids(batch))}
    engine = running.engine()
    engine.state.start()
    until(lambda: len(taken) >= len(flagged))
    assert taken == flagged
    assert flagged
    engine.state.close(1.0)


def test_an_arrow_table_is_answered_as_records_are(
    running: Running, served: Served, expected: pa.Table
) -> None:
    engine, table = running.engine(), table_of(served)
    seen = engine.peek_table(table.slice(0, 3)).answered.rows
    assert scored_of(seen).equals(scored_of(engine.peek(served.records[:3]).answered.rows))
    assert not engine.state.changed
    group = engine.record_table(table)
    assert scored_of(group.answered.rows).equals(expected.combine_chunks().to_batches()[0])
    with pa.ipc.open_stream(group.answered.ipc()) as reader:
        read = reader.read_all()
    assert ids(read) == ids(expected)
    assert read.column("error_code").null_count == len(read)
    engine.state.close(1.0)


def test_parts_of_a_group_are_the_answers_of_its_calls(running: Running, served: Served) -> None:
    engine = running.engine()
    group = engine.record([b"{", *served.records[:3], b"[]"], features=True)
    whole: Answered = group.answered
    parts = [whole.part(start, stop) for start, stop in ((0, 2), (2, 3), (3, 5))]
    members = [member for part in parts for member in json.loads(part.json(array=True))]
    assert members == json.loads(whole.json(array=True))
    assert [part.errors for part in parts] == [1, 0, 1]
    engine.state.close(1.0)


def test_many_answers_have_the_bytes_of_single_ones(running: Running, served: Served) -> None:
    engine = running.engine()
    earlier = engine.record(served.records[:9]).answered.rows
    rows = engine.record(served.records[9:300]).answered.rows
    strange = ['","', "}\n{", "", "\\", "ä", *ids(rows)[5:]]
    renamed = rows.set_column(0, rows.schema.field(0), pa.array(strange))
    nameless = pa.nulls(len(rows), pa.string())
    absent = rows.set_column(0, pa.field("transaction_id", pa.string()), nameless)
    late = engine.defaulted(rows, np.arange(len(rows)) % 7 == 0, TIMEOUT)
    scores = np.resize([0.0, 1.0, -0.0, 0.1 + 0.2, 2e-4, 3.3e-5, 4.5e-6, 7e-7, 5e-324], len(rows))
    place = rows.schema.get_field_index("score")
    extreme = rows.set_column(place, rows.schema.field(place), pa.array(scores))
    various = (rows, renamed, absent, extreme, late, late.slice(1, 80), marked(rows, TIMEOUT))
    for several in various:
        before = earlier.cast(several.schema)
        for batch in (several, pa.concat_batches([before, several])):
            one_by_one = [answers_json(batch.slice(row, 1))[0] for row in range(len(batch))]
            assert answers_json(batch) == one_by_one
            every = Answered(batch, np.arange(len(batch)), {}, len(batch))
            assert every.json(array=True) == b"[" + b",".join(one_by_one) + b"]"
            joint = every.with_joint()
            for start, stop in ((0, 1), (0, 70), (1, 80), (80, 80), (80, len(batch))):
                part = joint.part(start, stop).json(array=True)
                assert part == b"[" + b",".join(one_by_one[start:stop]) + b"]"
    assert any(rows.column("flagged").to_pylist())
    engine.state.close(1.0)


def test_an_archive_that_could_not_be_written_is_complete_later(
    running: Running, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_fraud.state.archive._ROW_GROUP_ROWS", 50)
    engine = running.engine()
    with monkeypatch.context() as full:

        def refuses(*args: object, **kwargs: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        full.setattr(pq.ParquetWriter, "write_table", refuses)
        codes = list[Code]()
        for start in range(0, 400, 100):
            engine.record(served.records[start : start + 100])
            try:
                engine.state.commit(fold=True)
            except FraudError as error:
                codes.append(error.code)
        assert set(codes) == {Code.OUTPUT_UNWRITABLE}
    engine.state.commit(fold=True)
    engine.state.close(1.0)
    assert ids(pq.read_table(running.scores)) == [
        str(json.loads(record)["TRANSACTION_ID"]) for record in served.records
    ]

"""Answers in memory are found as long as they are kept, the newest of each id."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.serve.recent_answers import RecentAnswers

SCHEMA = pa.schema([("transaction_id", pa.string()), ("step", pa.int64())])
steps = st.lists(st.lists(st.integers(0, 30).map(str), max_size=5, unique=True), max_size=30)


def batch(answers: dict[str, int]) -> pa.RecordBatch:
    columns = [pa.array(list(answers), pa.string()), pa.array(list(answers.values()), pa.int64())]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


@given(steps, st.integers(1, 12), st.integers(1, 6), st.integers(1, 4))
def test_the_newest_answers_are_found(
    groups: list[list[str]], most: int, large: int, every: int
) -> None:
    recent, last = RecentAnswers(large), dict[str, int]()
    batches = list[pa.RecordBatch]()
    waiting, archived, rows = set[str](), set[str](), 0
    for step, ids in enumerate(groups):
        answers = dict.fromkeys(ids, step)
        batches.append(batch(answers))
        recent.add(batches[-1])
        last |= answers
        waiting |= set(ids)
        if step % 3 == 2:
            # The last group is not committed yet.
            recent.archive(batches[:-1], most)
            rows = sum(map(len, batches[:-1]))
            waiting, archived, batches = set(ids), waiting - set(ids), batches[-1:]
        for name, newest in last.items() if step % every == 0 else ():
            found, row = recent.place(name)
            if found is None:
                assert name not in waiting
                assert name not in archived or rows + sum(map(len, batches)) > most
            else:
                assert found.column("transaction_id")[row].as_py() == name
                assert found.column("step")[row].as_py() == newest
        assert len(recent._numbers) <= most + rows + len(waiting)


@given(steps, st.integers(1, 6))
def test_answers_that_nobody_got_are_not_found(groups: list[list[str]], large: int) -> None:
    recent = RecentAnswers(large)
    for step, ids in enumerate(groups):
        given_up, answers = batch(dict.fromkeys(ids, -1)), batch(dict.fromkeys(ids, step))
        recent.add(given_up)
        recent.remove(given_up)
        assert not any(recent.place(name)[0] is given_up for name in ids)
        recent.add(answers)
        recent.archive([answers], 1_000)
        assert [recent.place(name) for name in ids] == [(answers, row) for row in range(len(ids))]


def test_answers_that_wait_for_the_archive_displace_no_archived_ones() -> None:
    recent = RecentAnswers(2)
    archived, waiting = batch({"a": 0, "b": 0}), batch({"c": 1, "d": 1, "e": 1})
    recent.add(archived)
    recent.add(waiting)
    recent.archive([archived], 2)
    assert [recent.place(name)[0] for name in "abcde"] == [archived] * 2 + [waiting] * 3
    recent.archive([waiting], 2)
    assert [recent.place(name)[0] for name in "abcde"] == [None] * 2 + [waiting] * 3

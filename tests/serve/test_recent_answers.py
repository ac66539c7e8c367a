"""Answers in memory are found as long as they are kept, the newest of each id."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.serve.state import _RecentAnswers

SCHEMA = pa.schema([("transaction_id", pa.string()), ("step", pa.int64())])
steps = st.lists(st.lists(st.integers(0, 30).map(str), max_size=5, unique=True), max_size=30)


def batch(answers: dict[str, int]) -> pa.RecordBatch:
    columns = [pa.array(list(answers), pa.string()), pa.array(list(answers.values()), pa.int64())]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


@given(steps, st.integers(1, 12))
def test_the_newest_answers_are_found(groups: list[list[str]], most: int) -> None:
    recent, last = _RecentAnswers(), dict[str, int]()
    waiting, archived = dict[str, int](), dict[str, int]()
    for step, ids in enumerate(groups):
        answers = dict.fromkeys(ids, step)
        recent.add(batch(answers))
        last |= answers
        waiting |= answers
        if step % 3 == 2:
            recent.archive(batch(waiting), most)
            waiting, archived = {}, waiting
        for name, newest in last.items():
            found, row = recent.place(name)
            if found is None:
                assert name not in waiting
                assert name not in archived
            else:
                assert found.column("transaction_id")[row].as_py() == name
                assert found.column("step")[row].as_py() == newest
        assert len(recent._numbers) <= most + len(archived)

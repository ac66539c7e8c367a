"""Parts have every row once and share no key."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.sinks.database import key_ranges


@given(st.lists(st.sampled_from("abcdef")), st.integers(1, 5))
def test_parts_are_the_rows_by_key(keys: list[str], parts: int) -> None:
    rows = [{"key": key, "number": number} for number, key in enumerate(keys)]
    schema = pa.schema([("key", pa.string()), ("number", pa.int64())])
    ranges = key_ranges(pa.RecordBatch.from_pylist(rows, schema=schema), "key", parts)
    assert len(ranges) <= parts
    assert all(len(part) for part in ranges)
    # Python's sort leaves rows of one key as they are, and so does the cut.
    joined = [row for part in ranges for row in part.to_pylist()]
    assert joined == sorted(rows, key=lambda row: row["key"])
    sets = [set(part.column("key").to_pylist()) for part in ranges]
    assert len(set().union(*sets)) == sum(map(len, sets))


def test_parts_are_as_large_as_each_other_where_keys_differ() -> None:
    batch = pa.record_batch({"key": [f"{number:04}" for number in range(1000)]})
    assert [len(part) for part in key_ranges(batch, "key", 4)] == [250] * 4

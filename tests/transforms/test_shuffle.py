"""Rows grouped through files: none is lost, and each is in its own group."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.transforms.shuffle.order import ORDER, file_of, in_order, order_of
from beam_fraud.transforms.shuffle.spill import SpilledPart, SpillWriter, read_spilled, split
from beam_fraud.transforms.shuffle.velocity import time_slices


def batch_of(values: list[int]) -> pa.RecordBatch:
    return pa.record_batch({"value": pa.array(values, pa.int64())}, metadata={"origin": "x"})


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 9)), max_size=50))
def test_every_row_goes_to_its_part_in_order(rows: list[tuple[int, int]]) -> None:
    parts = np.array([part for part, _ in rows], dtype=np.uint64)
    result = dict(split(batch_of([value for _, value in rows]), parts))
    assert {part: batch["value"].to_pylist() for part, batch in result.items()} == {
        number: [value for part, value in rows if part == number]
        for number in sorted({part for part, _ in rows})
    }


def test_spilled_rows_are_read_in_order(tmp_path: Path) -> None:
    writer = SpillWriter(tmp_path / "new", "bundle")
    for start in range(0, 30_000, 3_000):
        writer.write(3, batch_of(list(range(start, start + 3_000))))
        writer.write(start // 3_000 % 2, batch_of([start]))
    written = {part.part: part for part in writer.close()}
    assert {part: spilled.rows for part, spilled in written.items()} == {0: 5, 1: 5, 3: 30_000}
    assert values(written[3]) == list(range(30_000))
    assert values(written[1]) == [3_000, 9_000, 15_000, 21_000, 27_000]


def values(part: SpilledPart) -> list[int]:
    return [value for batch in read_spilled(part) for value in batch["value"].to_pylist()]


def timed(times: list[int]) -> pa.RecordBatch:
    return pa.record_batch(
        {"event_time": pa.array(times, EVENT_TIME), "value": pa.array(range(len(times)))}
    )


def test_slices_follow_each_other_in_time(tmp_path: Path) -> None:
    times = np.random.default_rng(3).integers(0, 500, 4_000).tolist()
    writer = SpillWriter(tmp_path, "all")
    writer.write(0, timed(times[:1_000]))
    writer.write(1, timed(times[1_000:]))
    slices = time_slices(writer.close(), 400, tmp_path, "slice")
    read = [pa.Table.from_batches(read_spilled(part)) for part in slices]
    assert len(read) > 5
    assert max(table.num_rows for table in read) < 1_000
    spans = [pc.min_max(table["event_time"]).as_py() for table in read]
    assert all(before["max"] < after["min"] for before, after in pairwise(spans))
    assert sum(table.num_rows for table in read) == 4_000


def test_rows_of_one_moment_are_one_slice(tmp_path: Path) -> None:
    writer = SpillWriter(tmp_path, "all")
    writer.write(0, timed([7] * 100))
    (only,) = time_slices(writer.close(), 10, tmp_path, "slice")
    assert only.rows == 100


def test_rows_stand_in_order_of_time_then_file_then_position() -> None:
    order = pa.concat_arrays([order_of(1, pa.array([0, 1])), order_of(0, pa.array([5, 2**39]))])
    rows = pa.table({"event_time": pa.array([9, 3, 9, 9], EVENT_TIME), ORDER: order})
    assert in_order(rows)[ORDER].to_pylist() == [order[i].as_py() for i in (1, 2, 3, 0)]
    assert file_of(order).tolist() == [1, 1, 0, 0]

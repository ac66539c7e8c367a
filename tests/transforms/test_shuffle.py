"""Rows grouped through files: none is lost, and each is in its own group."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.features.hashing import IdHash
from beam_fraud.features.velocity.columns import VelocityWalk, part_of, with_velocity
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.schema.velocity import Velocity
from beam_fraud.storage.spill import SpilledPart, SpillWriter, read_spilled, split
from beam_fraud.transforms.order import ORDER, file_of, in_order, order_of
from beam_fraud.transforms.shuffle import time_slices, velocity_of_part

HASH = IdHash.random()
DAY = 86_400_000_000
ACCOUNT = (
    Velocity(("account_id",), ("1h", "2d"), ("count", "mean", "std", "max", "distinct_merchant")),
    Velocity(("account_id",), ("3d",), ("seconds_since_last", "ratio")),
)
MERCHANT = (Velocity(("merchant_id",), ("1d",), ("count", "risk"), delay="1d"),)
BOTH = (Velocity(("account_id", "merchant_id"), ("7d",), ("sum",)),)
BY_CURRENCY = tuple(replace(definition, by_currency=True) for definition in ACCOUNT)


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


def transactions(rows: int = 3_000) -> pa.Table:
    """Half of all rows are one merchant's, many have equal times, some have no account."""
    rng = np.random.default_rng(5)
    accounts = [None if a == 0 else f"a{a}" for a in rng.integers(0, 40, rows)]
    merchants = [f"m{m}" for m in np.where(rng.random(rows) < 0.5, 0, rng.integers(1, 20, rows))]
    return pa.table(
        {
            "transaction_id": [f"t{row}" for row in range(rows)],
            "event_time": pa.array(rng.integers(0, 200, rows) * DAY // 20, EVENT_TIME),
            "account_id": pa.array(accounts, pa.string()),
            "merchant_id": merchants,
            "amount": rng.exponential(50, rows).round(2),
            "currency": pa.array(np.array(["EUR", "JPY", None])[rng.integers(0, 3, rows)]),
            "label": pa.array((rng.random(rows) < 0.1).astype(np.int8)),
            ORDER: rng.permutation(rows),
        }
    )


@pytest.mark.parametrize("definitions", [ACCOUNT, MERCHANT, BOTH, BY_CURRENCY])
@pytest.mark.parametrize("most_rows", [100_000, 700])
def test_parts_have_the_features_of_all_rows(
    definitions: tuple[Velocity, ...], most_rows: int, tmp_path: Path
) -> None:
    value = transactions()
    by_time = [("event_time", "ascending"), (ORDER, "ascending")]
    expected = with_velocity(value.sort_by(by_time), definitions).sort_by(ORDER)
    writers = [SpillWriter(tmp_path, f"bundle{number}") for number in range(2)]
    for number, batch in enumerate(value.to_batches(max_chunksize=450)):
        parts = part_of(batch, definitions[0].key, 3, HASH)
        for part in range(3):
            writers[number % 2].write(part, batch.filter(pa.array(parts == part)))
    spilled = [part for writer in writers for part in writer.close()]
    result = []
    for number in range(3):
        result += velocity_of_part(
            [part for part in spilled if part.part == number],
            definitions,
            scratch=tmp_path,
            block_rows=128,
            most_rows=most_rows,
        )
    assert max(len(batch) for batch in result) <= 128
    together = pa.Table.from_batches(result).sort_by(ORDER)
    assert together.equals(expected.select(together.column_names)) or nan_equal(together, expected)
    assert not list(tmp_path.glob("slice-*"))


def nan_equal(found: pa.Table, expected: pa.Table) -> bool:
    """Compare with equal NaN, which Arrow treats as different."""
    assert found.column_names == expected.column_names
    for name in found.column_names:
        one, other = found[name].combine_chunks(), expected[name].combine_chunks()
        if pa.types.is_floating(one.type):
            assert one.to_numpy().tobytes() == other.to_numpy().tobytes(), name
        else:
            assert one.equals(other), name
    return True


def test_rows_of_a_key_are_in_one_part_and_rows_without_are_spread() -> None:
    value = transactions(20_000).combine_chunks().to_batches()[0]
    parts = part_of(value, ("account_id",), 8, HASH)
    accounts = value["account_id"].to_pylist()
    of_account: dict[str, set[int]] = {}
    for account, part in zip(accounts, parts.tolist(), strict=True):
        if account is not None:
            of_account.setdefault(account, set()).add(part)
    assert all(len(result) == 1 for result in of_account.values())
    assert len(set.union(*of_account.values())) > 5
    absent = np.array([account is None for account in accounts])
    assert np.bincount(parts[absent], minlength=8).min() > 0.08 * absent.sum()


def test_a_walk_is_the_batch_engine_block_by_block() -> None:
    value = transactions().sort_by([("event_time", "ascending"), (ORDER, "ascending")])
    walk = VelocityWalk(ACCOUNT)
    blocks = [walk.add(batch) for batch in value.combine_chunks().to_batches(max_chunksize=77)]
    assert nan_equal(pa.Table.from_batches(blocks), with_velocity(value, ACCOUNT))

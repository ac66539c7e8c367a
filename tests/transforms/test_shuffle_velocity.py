"""The features of a part equal those of all transactions at once, for any division."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from beam_fraud.features.hashing import IdHash
from beam_fraud.features.velocity.columns import VelocityWalk, part_of, with_velocity
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.schema.velocity import Velocity
from beam_fraud.transforms.shuffle.order import ORDER
from beam_fraud.transforms.shuffle.spill import SpillWriter
from beam_fraud.transforms.shuffle.velocity import velocity_of_part

HASH = IdHash.random()
DAY = 86_400_000_000
ACCOUNT = (
    Velocity(("account_id",), ("1h", "2d"), ("count", "mean", "std", "max", "distinct_merchant")),
    Velocity(("account_id",), ("3d",), ("seconds_since_last", "ratio")),
)
MERCHANT = (Velocity(("merchant_id",), ("1d",), ("count", "risk"), delay="1d"),)
BOTH = (Velocity(("account_id", "merchant_id"), ("7d",), ("sum",)),)


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
            "label": pa.array((rng.random(rows) < 0.1).astype(np.int8)),
            ORDER: rng.permutation(rows),
        }
    )


@pytest.mark.parametrize("definitions", [ACCOUNT, MERCHANT, BOTH])
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

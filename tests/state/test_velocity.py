"""Velocity of a stream does not change with stops, nor with labels during the run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.errors import FraudError
from beam_fraud.features.hashing import IdHash
from beam_fraud.features.velocity.columns import with_velocity
from beam_fraud.schema.velocity import Velocity
from beam_fraud.sources.raw import Origin, with_origin
from beam_fraud.state.shard import Delta
from beam_fraud.state.velocity import VelocityShard

HASH = IdHash.random()
DAY = 86_400_000_000
DEFINITIONS = (
    Velocity(("account_id",), ("1d", "3d"), ("count", "mean", "std", "distinct_merchant")),
    Velocity(("account_id",), ("4d",), ("ratio", "sum", "max"), by_currency=True),
    Velocity(("account_id",), ("2d",), ("count", "risk"), delay="1d"),
)
UTC = pa.timestamp("us", "UTC")


def transactions(rows: int, seed: int = 1, *, days: int = 10) -> pa.RecordBatch:
    """Transactions of few accounts, in the order of their times."""
    random = np.random.default_rng(seed)
    accounts = [None, "a", "b", "c"]
    return pa.record_batch(
        {
            "transaction_id": [str(number) for number in range(rows)],
            "event_time": pa.array(np.sort(random.integers(0, days * DAY, rows))).cast(UTC),
            "account_id": [accounts[i] for i in random.integers(0, 4, rows)],
            "merchant_id": [f"m{i}" for i in random.integers(0, 5, rows)],
            "amount": random.integers(1, 10_000, rows) / 100,
            "currency": pa.array([("EUR", "JPY", None)[i % 3] for i in range(rows)], pa.string()),
        }
    )


def labels(of: pa.RecordBatch, label: Sequence[int], at: int) -> pa.RecordBatch:
    """Labels of transactions, all known at the same time."""
    batch = pa.record_batch(
        {
            **{name: of.column(name) for name in ("transaction_id", "account_id", "merchant_id")},
            "event_time": of.column("event_time"),
            "label": pa.array(label, pa.int8()),
            "labelled_at": pa.array([at] * len(of)).cast(UTC),
            "labelled_by": [""] * len(of),
        }
    )
    origin = Origin("labels:0", "jsonl", content="labels")
    return batch.cast(with_origin(batch.schema, origin))


def features(shard: VelocityShard, batches: Sequence[pa.RecordBatch]) -> pa.Table:
    accepted = [rows for batch in batches for rows in shard.take(batch).rows]
    return pa.Table.from_batches([rows for rows in accepted if "label" not in rows.schema.names])


def equal(one: pa.Table, other: pa.Table) -> bool:
    assert one.schema.names == other.schema.names
    for name in one.schema.names:
        left, right = (t[name].combine_chunks() for t in (one, other))
        if pa.types.is_floating(left.type):
            np.testing.assert_array_equal(left.to_numpy(False), right.to_numpy(False), name)
        else:
            assert left.equals(right), name
    return True


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=6),
    st.sets(st.integers(0, 5)),
    st.integers(1, 5),
)
def test_a_stopped_shard_resumes_as_if_it_had_never_stopped(
    cuts: list[int], stops: set[int], merged: int
) -> None:
    rows = transactions(60)
    bounds = sorted({0, 60, *cuts})
    batches: list[pa.RecordBatch] = []
    for start, stop in pairwise(bounds):
        batch = rows.slice(start, stop - start)
        at = int(batch.column("event_time").cast(pa.int64())[-1].as_py())
        batches += [batch, labels(batch.slice(0, 3), [1, 0, 1][: min(3, len(batch))], at)]
    whole = features(VelocityShard(0, hashing=HASH, definitions=DEFINITIONS), batches)
    shard, stored, parts = (
        VelocityShard(0, hashing=HASH, definitions=DEFINITIONS),
        list[bytes](),
        [],
    )
    shard.restore(())
    for number, batch in enumerate(batches):
        if number in stops:
            if len(stored) >= merged:
                stored[:merged] = [shard.merge(stored[:merged])]
            shard = VelocityShard(0, hashing=HASH, definitions=DEFINITIONS)
            assert not shard.restore(stored).deltas
        effects = shard.take(batch)
        stored += [delta.data for delta in effects.deltas]
        parts += [rows for rows in effects.rows if "label" not in rows.schema.names]
    assert equal(pa.Table.from_batches(parts), whole)


def test_a_new_shard_reads_the_history_first_and_stores_it() -> None:
    rows = transactions(400)
    earlier, later = rows.slice(0, 300), rows.slice(300)
    expected = with_velocity(pa.Table.from_batches([rows]), DEFINITIONS).slice(300)
    shard = VelocityShard(0, hashing=HASH, definitions=DEFINITIONS, history=lambda: iter([earlier]))
    restored = shard.restore(())
    assert equal(features(shard, [later]), expected)
    again = VelocityShard(
        0, hashing=HASH, definitions=DEFINITIONS, history=lambda: pytest.fail("read again")
    )
    again.restore([delta.data for delta in restored.deltas])
    assert equal(features(again, [later]), expected)


def test_shards_take_their_own_part_of_the_history() -> None:
    earlier = transactions(300, days=2)
    stored, counted = 0, []
    for number in range(4):
        shard = VelocityShard(
            number,
            hashing=HASH,
            definitions=DEFINITIONS,
            shards=4,
            history=lambda: iter([earlier]),
            counted=counted.append,
        )
        shard.restore(())
        stored += shard.rows
    alone = VelocityShard(0, hashing=HASH, definitions=DEFINITIONS, history=lambda: iter([earlier]))
    alone.restore(())
    assert stored == alone.rows > 0
    assert sum(counted) == len(earlier)


def test_a_label_is_visible_from_its_time_and_can_be_withdrawn() -> None:
    definition = (Velocity(("account_id",), ("30d",), ("risk",), delay="1d"),)
    shard = VelocityShard(0, hashing=HASH, definitions=definition)
    at = [0, 2 * DAY, 3 * DAY, 4 * DAY]
    rows = pa.record_batch(
        {
            "transaction_id": ["0", "1", "2", "3"],
            "event_time": pa.array(at).cast(UTC),
            "account_id": ["a"] * 4,
            "merchant_id": ["m"] * 4,
            "amount": [1.0] * 4,
        }
    )
    (name,) = definition[0].names

    def risk(row: int) -> float:
        (batch,) = shard.take(rows.slice(row, 1)).rows
        return float(batch.column(name)[0].as_py())

    assert risk(0) == 0
    first = rows.slice(0, 1)
    (passed,) = shard.take(labels(first, [1], int(2.5 * DAY))).rows
    assert passed.equals(labels(first, [1], int(2.5 * DAY)))
    assert risk(1) == 0, "labelled half a day later"
    assert risk(2) == 0.5
    shard.take(labels(first, [0], int(3.5 * DAY)))
    assert risk(3) == 0, "it was genuine after all"


def test_labels_that_do_not_carry_the_key_pass() -> None:
    shard = VelocityShard(
        0, hashing=HASH, definitions=[Velocity(("device",), ("1d",), ("risk",), delay="1d")]
    )
    batch = labels(transactions(3), [1, 1, 1], DAY)
    effects = shard.take(batch)
    assert list(effects.rows) == [batch]
    assert not effects.deltas


def test_state_of_another_version_is_refused_in_one_line() -> None:
    with pytest.raises(FraudError, match="not what this version keeps"):
        VelocityShard(0, hashing=HASH, definitions=DEFINITIONS).restore([b"\xff" * 100])


def test_rows_far_ahead_that_outlive_the_bulk_expire_nothing_after_a_restart() -> None:
    definitions = (Velocity(("account_id",), ("1h",), ("count", "sum", "seconds_since_last")),)
    shard = VelocityShard(0, hashing=HASH, definitions=definitions)
    shard.restore(())
    hour, stored = DAY // 24, list[bytes]()

    def batch(number: int) -> pa.RecordBatch:
        """Return the rows of half an hour; one source in ten has a wrong clock."""
        rows = np.arange(60)
        times = (number * 60 + rows) * hour // 120
        times = np.where(rows % 10 == 3, times + 365 * DAY, times)
        return pa.record_batch(
            {
                "transaction_id": [f"{number}-{row}" for row in rows],
                "event_time": pa.array(times).cast(UTC),
                "account_id": [f"a{row % 5}" for row in rows],
                "merchant_id": ["m"] * 60,
                "amount": (rows + 1.0).tolist(),
            }
        )

    for number in range(60):
        stored += [delta.data for delta in shard.take(batch(number)).deltas]
        if number % 7 == 6:
            stored = [shard.merge(stored)]
    restored = VelocityShard(0, hashing=HASH, definitions=definitions)
    restored.restore(stored)
    expected = features(shard, [batch(60)])
    assert max(expected["account_count_1h"].to_pylist()) > 20
    assert equal(features(restored, [batch(60)]), expected)
    # The rows that are ahead are all that is left of most hours.
    assert restored.rows == shard.rows


def test_very_late_rows_count_for_the_clock_of_a_restored_state() -> None:
    definitions = (Velocity(("account_id",), ("1h",), ("count", "sum")),)
    start, late = 2_000_000 * 64, 20

    def shard(stored: Sequence[Delta]) -> VelocityShard:
        made = VelocityShard(0, hashing=HASH, definitions=definitions)
        made.restore([delta.data for delta in stored])
        return made

    def rows(first: int, seconds: Sequence[int]) -> pa.RecordBatch:
        times = pa.array([start + second * 1_000_000 for second in seconds]).cast(UTC)
        ids = [str(number) for number in range(first, first + len(seconds))]
        accounts = ["a"] * len(ids)
        columns = {"transaction_id": ids, "event_time": times, "account_id": accounts}
        return pa.record_batch({**columns, "merchant_id": accounts, "amount": [1.0] * len(ids)})

    undisturbed = shard(())
    # As many rows as the clock has blocks, twice; then a part of a block, of which some are late.
    batches = [rows(0, range(2_048))]
    batches += [rows(2_048 + n, [2_048 - 20_000 * (n % 2)]) for n in range(2 * late)]
    stored = [delta for batch in batches for delta in undisturbed.take(batch).deltas]
    kept = [delta for delta in stored if delta.newest >= undisturbed.needed_from]
    merged = undisturbed.merge([delta.data for delta in kept[1:]])
    for deltas in (kept, [kept[0], Delta(merged)]):
        assert shard(deltas)._state.clock.state == undisturbed._state.clock.state
    # Also rows that come one by one as values.
    (key, time, amount), alone = (7, start - 20_000 * 1_000_000, 1), shard(kept)
    alone.observe_one(key, start + 2_048 * 1_000_000, amount)
    kept.append(alone.observe_one(key, time, amount)[1])
    assert kept[-1].newest >= alone.needed_from
    assert time in alone._state.clock.state.open
    assert time in shard(kept)._state.clock.state.open


def test_labels_that_no_window_reaches_leave_the_state() -> None:
    shard = VelocityShard(0, hashing=HASH, definitions=DEFINITIONS)
    shard.restore(())
    sizes, stored = [], list[bytes]()
    for number in range(40):
        rows = transactions(100, seed=number, days=1)
        times = pa.array(rows.column("event_time").cast(pa.int64()).to_numpy() + number * DAY)
        rows = rows.set_column(1, "event_time", times.cast(UTC))
        effects = [shard.take(rows), shard.take(labels(rows, [1] * 100, (number + 1) * DAY))]
        stored += [delta.data for effect in effects for delta in effect.deltas]
        stored = [shard.merge(stored)]
        sizes.append(len(stored[0]))
    assert max(sizes) < 2 * sizes[10]

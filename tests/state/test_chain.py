"""Chained shards of one key give the results of the single shards."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.errors import FraudError
from beam_fraud.features.hashing import IdHash
from beam_fraud.schema.velocity import Velocity
from beam_fraud.state.chain import ChainShard
from beam_fraud.state.deduplicate import DeduplicateShard
from beam_fraud.state.shard import Effects, Shard
from beam_fraud.state.velocity import VelocityShard

HASH = IdHash.random()
COUNT = Velocity(("account_id",), ("1h",), ("count",))
EVENT_TIME = pa.timestamp("us", "UTC")
#: Transactions as id and account; each is a second after the one before.
Rows = list[tuple[int, int]]


def links() -> list[Shard]:
    return [
        DeduplicateShard(86_400_000_000, lambda rows: None, HASH),
        VelocityShard(0, definitions=[COUNT], hashing=HASH),
    ]


def batch(rows: Rows, start: int) -> pa.RecordBatch:
    times = [(start + number) * 1_000_000 for number in range(len(rows))]
    return pa.record_batch(
        {
            "transaction_id": [f"t{one}" for one, _ in rows],
            "event_time": pa.array(times, EVENT_TIME),
            "account_id": [f"a{account}" for _, account in rows],
            "amount": [1.0] * len(rows),
        }
    )


def one_by_one(shards: Sequence[Shard], rows: pa.RecordBatch) -> list[pa.RecordBatch]:
    batches = [rows]
    for shard in shards:
        batches = [after for before in batches for after in shard.take(before).rows]
    return batches


batches = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=6), max_size=6
)


@settings(deadline=None)
@given(batches, st.integers(0, 6), st.booleans())
def test_a_chain_equals_its_links_in_order_also_after_a_restore(
    rows: list[Rows], restored_after: int, merged: bool
) -> None:
    apart, chain = links(), ChainShard(links())
    stored: list[bytes] = []
    for number, some in enumerate(rows):
        if number == restored_after and stored:
            chain_before, chain = chain, ChainShard(links())
            chain.restore([chain_before.merge(stored)] if merged else stored)
        one = batch(some, number * 10)
        effects = chain.take(one)
        stored += [delta.data for delta in effects.deltas]
        assert list(effects.rows) == one_by_one(apart, one)


def test_rows_that_a_link_emits_on_restore_or_tick_pass_the_later_links() -> None:
    class Held(DeduplicateShard):
        """Emits its rows at the next tick."""

        held: list[pa.RecordBatch]

        def restore(self, kept: Sequence[bytes]) -> Effects:
            self.held = []
            return super().restore(kept)

        def take(self, batch: pa.RecordBatch) -> Effects:
            self.held.append(batch)
            return Effects()

        def tick(self, now: float) -> Effects:
            given, self.held = self.held, []
            return Effects(given)

        @property
        def waiting(self) -> bool:
            return bool(self.held)

    chain = ChainShard([Held(1, print, HASH), VelocityShard(0, definitions=[COUNT], hashing=HASH)])
    chain.restore([])
    assert not chain.take(batch([(1, 1)], 0)).rows
    assert chain.waiting
    (row,) = chain.tick(0.0).rows
    assert COUNT.names[0] in row.schema.names
    assert not chain.waiting


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"\x07" + data[1:]])
def test_a_damaged_state_is_refused(damage: partial[bytes]) -> None:
    chain = ChainShard(links())
    stored = [delta.data for delta in chain.take(batch([(1, 1)], 0)).deltas]
    with pytest.raises(FraudError, match="the stream's state is damaged"):
        ChainShard(links()).restore([damage(stored[0])])

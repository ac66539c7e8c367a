"""The host of this machine's shards keeps all that they knew, however many batches came."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from beam_fraud.features.hashing import IdHash
from beam_fraud.state.deduplicate import DeduplicateShard
from beam_fraud.state.local_shards import LocalShards
from beam_fraud.storage.checkpoint import LocalCheckpoint
from tests.shard_host import transactions

#: So many that levels of the checkpoint are merged together.
_BATCHES = 1_200


def small_batches() -> Iterator[pa.RecordBatch]:
    """Yield batches of one transaction each."""
    for number in range(_BATCHES):
        yield transactions([str(number)], [number], source="t:0", start=number)


def test_a_restart_after_many_small_batches_knows_every_id(tmp_path: Path) -> None:
    hashing = IdHash.random()

    def opened() -> tuple[LocalShards, LocalCheckpoint]:
        checkpoint = LocalCheckpoint(tmp_path / "state.db")
        shards = LocalShards(
            lambda _: DeduplicateShard(10 * _BATCHES, lambda rows: None, hashing), "ids", checkpoint
        )
        return shards, checkpoint

    shards, checkpoint = opened()
    new = [len(rows) for batch in small_batches() for rows in shards.take(0, batch)]
    assert sum(new) == _BATCHES
    checkpoint.commit({"t:0": str(_BATCHES)})
    checkpoint.close()
    shards, checkpoint = opened()
    again = [len(rows) for batch in small_batches() for rows in shards.take(0, batch)]
    assert sum(again) == 0
    checkpoint.close()

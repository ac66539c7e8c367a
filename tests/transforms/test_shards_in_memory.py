"""The shard in memory agrees with the runner's state, or the run fails."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from beam_fraud.errors import FraudError
from beam_fraud.transforms.shards_in_memory import Opened, ShardsInMemory

SHARD: Any = SimpleNamespace()


def test_the_next_bundle_gets_the_state_of_the_last(tmp_path: Path) -> None:
    shards = ShardsInMemory(str(tmp_path), "step", repeats_nothing=True)
    assert shards.take(0, b"") is None
    opened = Opened(b"first", SHARD)
    shards.put(0, opened)
    assert shards.take(0, b"first") is opened
    assert shards.take(1, b"") is None


def test_two_bundles_of_one_shard_at_once_are_an_error(tmp_path: Path) -> None:
    shards = ShardsInMemory(str(tmp_path), "step", repeats_nothing=True)
    shards.take(3, b"")
    with pytest.raises(FraudError, match="shard 3 of step"):
        shards.take(3, b"")


def test_outdated_state_is_an_error(tmp_path: Path) -> None:
    shards = ShardsInMemory(str(tmp_path), "step", repeats_nothing=True)
    shards.take(0, b"")
    shards.put(0, Opened(b"first", SHARD))
    with pytest.raises(FraudError, match="shard 0 of step"):
        shards.take(0, b"")


def test_a_shard_is_restored_where_bundles_are_repeated(tmp_path: Path) -> None:
    shards = ShardsInMemory(str(tmp_path), "step")
    assert shards.take(0, b"") is None
    assert shards.take(0, b"") is None
    shards.put(0, Opened(b"failed", SHARD))
    assert shards.take(0, b"kept") is None

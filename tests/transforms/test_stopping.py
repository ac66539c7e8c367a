"""A stopped stream releases its waiting rows even if the runner keeps it up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from beam_fraud.state.shard import Effects
from beam_fraud.transforms.shards_in_memory import ShardsInMemory
from beam_fraud.transforms.stateful import _Waiting


class Holding:
    """A shard that holds all rows back until the end."""

    waiting = True

    def restore(self, kept: object) -> Effects:
        return Effects()

    def tick(self, now: float) -> Effects:
        return Effects()

    def finish(self) -> Effects:
        return Effects(rows=["all"])  # type: ignore[list-item]


@pytest.mark.parametrize(("stopped", "rows"), [(False, []), (True, ["all"])])
def test_a_tick_releases_all_rows_after_the_stop_file(
    tmp_path: Path, stopped: bool, rows: list[str]
) -> None:
    stop = tmp_path / "stop"
    if stopped:
        stop.touch()
    make: Any = lambda number: Holding()  # noqa: E731
    host: Any = _Waiting(make, ShardsInMemory(str(tmp_path), "step"), None, stop)
    state = SimpleNamespace(read=list)
    timer = SimpleNamespace(set=lambda moment: None)
    assert list(host.tick(0, state, SimpleNamespace(read=bytes), timer)) == rows

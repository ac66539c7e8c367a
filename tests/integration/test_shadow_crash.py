"""A stream with challengers in shadow that is killed and started again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_fraud.models.bundle import load_bundle
from tests.shadowing import Share, shadow_bundle
from tests.stream_process import UNTIL_IDLE, Stream

ROWS, FILES = 2_000, 20


@pytest.fixture
def running(inbox: Path, tmp_path: Path) -> Iterator[Stream]:
    for number in range(FILES):
        first = number * ROWS
        lines = (
            f"x{n},2024-01-01T00:00:00Z,c{n % 9},{n % 100}\n" for n in range(first, first + ROWS)
        )
        (inbox / f"{number:03}.csv").write_text("id,t,who,a\n" + "".join(lines))
    bundles = [
        shadow_bundle(tmp_path / name, Share(share))
        for name, share in (("a", 0.01), ("b", 0.02), ("c", 0.03))
    ]
    out = tmp_path / "out"
    command = ["stream", "--watch", str(inbox)]
    command += ["--model", bundles[0], "--shadow", bundles[1], "--shadow", bundles[2]]
    # A part for every other file, so that a kill may come between two of them.
    stream = Stream([*command, "--out", str(out), "--roll-rows", str(3 * ROWS)], out)
    yield stream
    stream.kill()


def test_every_row_of_a_shadow_is_archived_once(running: Stream, tmp_path: Path) -> None:
    running.start()
    assert running.wait_for_progress({})
    running.kill()
    running.start(*UNTIL_IDLE)
    running.wait_for_end()
    scores = pq.read_table(tmp_path / "out" / "scores")
    shadow = pq.read_table(tmp_path / "out" / "shadow")
    ids = sorted(f"x{n}" for n in range(ROWS * FILES))
    assert sorted(scores["transaction_id"].to_pylist()) == ids
    for name, share in (("b", 0.02), ("c", 0.03)):
        model = load_bundle(str(tmp_path / name)).model_id
        own = shadow.filter(pc.equal(shadow["model_id"], model))
        assert sorted(own["transaction_id"].to_pylist()) == ids
        expected = [
            min(int(row[1:]) % 100 * share, 1.0) for row in own["transaction_id"].to_pylist()
        ]
        assert own["score"].to_pylist() == expected

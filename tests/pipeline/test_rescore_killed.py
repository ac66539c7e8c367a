"""A rescore that is killed many times leaves what an undisturbed one does."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beam_fraud.pipeline.frames.learning import train

KILLS = 10


def call(*words: str) -> list[str]:
    return [sys.executable, "-m", "beam_fraud", *words]


def scores(out: Path) -> dict[str, bytes]:
    """Return every file of scores and dead letters."""
    root = out / "partitions"
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*.parquet")}


@pytest.mark.soak
def test_ten_kills_at_random_points_change_nothing(tmp_path: Path) -> None:
    archive, model = tmp_path / "archive", tmp_path / "model"
    words = ["--out", str(archive), "--partition", "day", "--days", "90", "--accounts", "10000"]
    subprocess.run(call("simulate", *words), check=True)
    days = sorted(archive.iterdir())
    train(
        [str(day) for day in days[:30]], schema="handbook", settings={"trees": 60}, name="new"
    ).save(model)
    rescore = call("rescore", str(archive), "--model", str(model), "--workers", "2", "--json")
    start = time.monotonic()
    undisturbed = tmp_path / "undisturbed"
    subprocess.run([*rescore, "--out", str(undisturbed)], check=True, stdout=subprocess.DEVNULL)
    took = time.monotonic() - start
    out = tmp_path / "out"
    chance = random.Random(0)
    for _ in range(KILLS):
        with subprocess.Popen([*rescore, "--out", str(out)], stdout=subprocess.DEVNULL) as run:
            time.sleep(chance.uniform(0, took))
            run.send_signal(signal.SIGKILL)
    subprocess.run([*rescore, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
    assert scores(out) == scores(undisturbed)
    start = time.monotonic()
    again = subprocess.run([*rescore, "--out", str(out)], check=True, stdout=subprocess.PIPE)
    assert time.monotonic() - start < 10
    summary = json.loads(again.stdout)
    assert summary["partitions"]["scored"] == 0
    read = [pq.ParquetFile(file).metadata.num_rows for file in archive.rglob("*.parquet")]
    assert summary["rows_scored"] == summary["rows_in"] == sum(read)

"""The plain loop that `rescore` is measured by has its scores."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from beam_fraud.cli.commands import rescore
from beam_fraud.cli.options import RescoreOptions
from beam_fraud.pipeline.frames.learning import train
from beam_fraud.simulate.files import write_partitions
from beam_fraud.simulate.simulation import Simulation, simulate
from benchmarks import plain_rescore

_COLUMNS = ["transaction_id", "event_time", "account_id", "amount", "score", "flagged", "label"]


def test_the_plain_loop_has_the_scores_of_the_command(tmp_path: Path) -> None:
    archive = tmp_path / "days"
    for seed in (0, 1):
        made = simulate(Simulation(50, 20, 30, seed, 0.1))
        list(write_partitions(made, archive, "day", f"seed-{seed}"))
    bundle = train(made, schema="handbook", settings={"trees": 5}, name="small")
    bundle.save(tmp_path / "bundle")
    # Blocks of few rows, so that windows reach into the days before.
    days, out = sorted(archive.iterdir()), tmp_path / "plain"
    rows = plain_rescore.rescore(days, tmp_path / "bundle", out, rows_at_once=100)
    options = RescoreOptions(
        files=(str(archive),), model=str(tmp_path / "bundle"), out=str(tmp_path / "out")
    )
    assert rescore.run(options)["rows_scored"] == rows > 1_000
    for day in days:
        plain = pq.read_table(out / day.name / "new.parquet", partitioning=None)
        scores = tmp_path / "out/partitions" / day.name / "scores/part-new.parquet"
        ours = pq.read_table(scores, partitioning=None, columns=_COLUMNS)
        plain = plain.select(_COLUMNS).cast(ours.schema)
        assert plain.sort_by("transaction_id") == ours.sort_by("transaction_id")

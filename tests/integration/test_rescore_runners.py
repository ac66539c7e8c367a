"""Other runners score an archive to the same rows, and fail the same partitions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import rescore
from beam_fraud.cli.options import RescoreOptions
from beam_fraud.errors import Code
from tests.failing import fails
from tests.integration.test_every_runner import options_of
from tests.pipeline.test_rescore import home as home
from tests.pipeline.test_rescore import lay_out, transactions

pytestmark = pytest.mark.slow


def left(out: Path) -> dict[str, pa.Table]:
    """Return the tables of all partitions."""
    return {
        str(path.relative_to(out)): pq.read_table(path, partitioning=None)
        for path in sorted(out.glob("partitions/*/*/*.parquet"))
    }


@pytest.mark.parametrize("name", ["prism", pytest.param("embedded", marks=pytest.mark.soak)])
def test_ranges_of_partitions_have_the_same_rows(
    name: str, home: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    archive = lay_out(transactions(), tmp_path / "days")
    bad = archive / "date=2024-01-06/part-0.parquet"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:-100])
    options = RescoreOptions(
        files=(str(archive),),
        model=str(home / "new"),
        rules=str(home / "rules.toml"),
        out=str(tmp_path / "here"),
        workers=3,
    )
    there = replace(
        options, out=str(tmp_path / "there"), beam_args=tuple(options_of(name, request))
    )
    for call in (options, there):
        with fails(Code.PARTITIONS_FAILED, "date=2024-01-06"):
            rescore.run(call)
    assert left(tmp_path / "there") == left(tmp_path / "here")
    # Only what failed, and windows that lacked its rows, are scored again.
    bad.write_bytes(whole)
    summaries = [rescore.run(call) for call in (options, there)]
    assert left(tmp_path / "there") == left(tmp_path / "here")
    for summary in summaries:
        assert summary["partitions"]["scored"] < summary["partitions"]["all"] == 10
    manifests = [
        json.loads((tmp_path / out / "manifest.json").read_text())["partitions"]
        for out in ("here", "there")
    ]
    ours, theirs = (
        [{k: p[k] for k in ("name", "state", "rows_in", "rows_scored", "reaches")} for p in m]
        for m in manifests
    )
    assert ours == theirs


def test_a_runner_whose_workers_share_no_directory_is_refused(home: Path, tmp_path: Path) -> None:
    options = RescoreOptions(
        files=(str(home / "days"),),
        model=str(home / "new"),
        out=str(tmp_path / "out"),
        beam_args=("--runner=DataflowRunner",),
    )
    with fails(Code.RUNNER_UNUSABLE, "DataflowRunner"):
        rescore.run(options)
